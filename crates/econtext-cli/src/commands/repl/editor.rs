//! The source of code: typed, with history and completion, or a file.

use crate::config::base_directories;
use econtext::Context as Child;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Helper};
use std::collections::VecDeque;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::time::Duration;

/// The time that the editor waits for a child to say whether code is complete, or which names there
/// are.
const PATIENCE: Duration = Duration::from_secs(2);

/// The result of a read.
pub(super) enum Read {
    /// Code, or a line with a colon.
    Text(String),
    /// Ctrl-C while nothing ran.
    Interrupted,
    /// The end of the input.
    End,
}

pub(super) enum Editor {
    /// Not opened yet: nothing was read.
    Closed {
        is_terminal: bool,
    },
    Terminal {
        editor: Box<rustyline::Editor<Help, FileHistory>>,
        history: Option<PathBuf>,
    },
    File(VecDeque<String>),
}

impl Editor {
    pub(super) fn new() -> Self {
        Editor::Closed { is_terminal: io::stdin().is_terminal() }
    }

    /// Begins to read.
    pub(super) fn open(self) -> anyhow::Result<Self> {
        if !self.is_terminal() {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text)?;
            return Ok(Editor::File(text.lines().map(str::to_owned).collect()));
        }
        use etcetera::BaseStrategy as _;
        let config = Config::builder()
            .auto_add_history(true)
            .completion_type(CompletionType::List)
            .tab_stop(4)
            .indent_size(4)
            .build();
        let mut editor = rustyline::Editor::with_config(config)?;
        let history =
            base_directories().and_then(|base| base.state_dir()).map(|d| d.join("econtext/history"));
        if let Some(history) = &history {
            // There is no history the first time.
            let _ = history.parent().map(std::fs::create_dir_all);
            let _ = editor.load_history(history);
        }
        Ok(Editor::Terminal { editor: Box::new(editor), history })
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Editor::Terminal { .. } | Editor::Closed { is_terminal: true })
    }

    /// Reads a whole piece of code; `child` decides whether it is whole.
    pub(super) fn read(&mut self, child: Option<Child>) -> anyhow::Result<Read> {
        match self {
            Editor::Terminal { editor, history } => {
                editor.set_helper(Some(Help { child }));
                let read = match editor.readline(">>> ") {
                    Ok(text) => Read::Text(text),
                    Err(ReadlineError::Interrupted) => Read::Interrupted,
                    Err(ReadlineError::Eof) => Read::End,
                    Err(error) => return Err(error.into()),
                };
                if let Some(history) = history {
                    // If this fails, the line is not in the history next time.
                    let _ = editor.append_history(history);
                }
                Ok(read)
            }
            Editor::Closed { .. } => Ok(Read::End),
            Editor::File(lines) => Ok(piece(lines, child.as_ref()).map_or(Read::End, Read::Text)),
        }
    }
}

/// The next lines that are whole, with those that follow in the same block, after empty lines too.
fn piece(lines: &mut VecDeque<String>, child: Option<&Child>) -> Option<String> {
    let mut text = lines.pop_front()?;
    if text.trim_start().starts_with(':') {
        return Some(text);
    }
    loop {
        let next = lines.iter().find(|line| !line.trim().is_empty());
        let goes_on = next.is_some_and(|line| {
            let word = line.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            line.starts_with(char::is_whitespace) || ["else", "elif", "except", "finally"].contains(&word)
        });
        // An empty line would end a block that is typed.
        if !goes_on && is_complete(child, &format!("{text}\n")) {
            return Some(text);
        }
        let Some(line) = lines.pop_front() else { return Some(text) };
        text.push('\n');
        text.push_str(&line);
    }
}

fn is_complete(child: Option<&Child>, text: &str) -> bool {
    let Some(child) = child else { return true };
    let call = child.prepare("econtext.repl:is_complete").args((text,)).timeout(PATIENCE);
    // A child that cannot tell reports the error when the code runs.
    call.start().wait().unwrap_or(true)
}

/// Completion and validation of code by a child while it is typed.
pub(super) struct Help {
    child: Option<Child>,
}

impl Completer for Help {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let before = &line[..at];
        let start = before
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'))
            .map_or(0, |i| i + before[i..].chars().next().map_or(1, char::len_utf8));
        let word = &before[start..];
        if word.is_empty() {
            // A tab at the beginning of a line indents code.
            return Ok((at, vec!["    ".to_owned()]));
        }
        let Some(child) = &self.child else { return Ok((at, Vec::new())) };
        let call = child.prepare("econtext.repl:complete").args((word, before)).timeout(PATIENCE);
        Ok((start, call.start().wait().unwrap_or_default()))
    }
}

impl Validator for Help {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        let whole = text.trim().is_empty()
            || text.trim_start().starts_with(':')
            || is_complete(self.child.as_ref(), text);
        Ok(if whole { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Hinter for Help {
    type Hint = String;
}

impl Highlighter for Help {}

impl Helper for Help {}

//! The words of a command line that are ours.

use std::ffi::OsString;

/// The index at which our own flags end: at the script, function or command, or at `-c` or `-m` of
/// `run`. The words from there on belong to those, however much they look like flags of ours.
pub(crate) fn end_of_ours(argv: &[OsString], command: &clap::Command) -> Option<usize> {
    let mut words = argv.iter().enumerate().skip(1);
    let (_, verb) = words.next()?;
    let verb = command.find_subcommand(verb)?;
    let takes_value = |id: &dyn Fn(&clap::Arg) -> bool| {
        verb.get_arguments()
            .find(|a| id(a))
            .is_some_and(|a| a.get_action().takes_values() && !a.is_require_equals_set())
    };
    let mut targets_given = false;
    while let Some((at, word)) = words.next() {
        let word = word.to_string_lossy();
        if word == "--" {
            return None; // the user's own
        }
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = long.split_once('=').map_or((long, None), |(n, v)| (n, Some(v)));
            targets_given |= matches!(name, "hosts" | "group" | "all");
            if value.is_none() && takes_value(&|a| a.get_long() == Some(name)) {
                words.next();
            }
        } else if word.len() > 1 && word.starts_with('-') {
            if verb.get_name() == "run" && (word.starts_with("-c") || word.starts_with("-m")) {
                return Some(at);
            }
            for (i, short) in word.char_indices().skip(1) {
                if short == '=' {
                    break; // behind it is a value
                }
                targets_given |= matches!(short, 'w' | 'g' | 'a');
                let is_it = |a: &clap::Arg| {
                    a.get_short_and_visible_aliases().is_some_and(|s| s.contains(&short))
                        || a.get_all_short_aliases().is_some_and(|s| s.contains(&short))
                };
                if takes_value(&is_it) {
                    if i + short.len_utf8() == word.len() {
                        words.next();
                    }
                    break;
                }
            }
        } else if targets_given {
            return Some(at);
        } else {
            targets_given = true;
        }
    }
    None
}

/// Moves our own long flags that stand after the function of a `call` before it. A function is not
/// given such a word by accident; after `--` it may be given one.
pub(super) fn gather_flags_of_call(argv: &mut Vec<OsString>, command: &clap::Command) {
    let Some(verb) = command.find_subcommand("call").filter(|_| argv.get(1).is_some_and(|w| w == "call"))
    else {
        return;
    };
    let Some(function) = end_of_ours(argv, command) else { return };
    let mut behind = argv.split_off(function).into_iter();
    let mut rest = Vec::new();
    while let Some(word) = behind.next() {
        if word == "--" {
            rest.push(word);
            break;
        }
        let text = word.to_string_lossy().into_owned();
        let (name, value) = text.split_once('=').map_or((text.as_str(), None), |(n, v)| (n, Some(v)));
        let arg =
            name.strip_prefix("--").and_then(|n| verb.get_arguments().find(|a| a.get_long() == Some(n)));
        let Some(arg) = arg else {
            rest.push(word);
            continue;
        };
        argv.push(word);
        if value.is_none() && arg.get_action().takes_values() && !arg.is_require_equals_set() {
            argv.extend(behind.next());
        }
    }
    argv.extend(rest);
    argv.extend(behind);
}

/// The words that make two runs the same: the command line without `--rerun`, and without flags
/// that only inspect a run.
pub(crate) fn same_command(argv: &[OsString], command: &clap::Command) -> Vec<OsString> {
    let mut argv = argv.to_vec();
    if argv.get(1).is_some_and(|word| word == "explain") {
        argv.remove(1);
    }
    gather_flags_of_call(&mut argv, command);
    let separator = argv.iter().position(|word| word == "--").unwrap_or(argv.len());
    let end = end_of_ours(&argv, command).unwrap_or(separator);
    let mut kept = Vec::new();
    let mut words = argv.into_iter().enumerate();
    while let Some((at, word)) = words.next() {
        let text = word.to_string_lossy();
        match &*text {
            "--rerun" if at < end => drop(words.next()),
            "--list-hosts" | "--dry-run" if at < end => {}
            text if at < end && text.starts_with("--rerun=") => {}
            _ => kept.push(word),
        }
    }
    kept
}

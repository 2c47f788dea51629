//! Modules and files for one child: those sent ahead of its calls, and the answers to its
//! questions.

use super::phase::{Link, State};
use super::requests::{Ahead, IN_A_ROW, LOOK_AGAIN, MAX_UNSENT, Request};
use super::scheduler::Scheduler;
use crate::modules::agent;
use crate::modules::distribution::{distributions, normal_name};
use crate::modules::finder::{FileAnswer, LOOKS_BESIDE, deflate, record as module_record};
use crate::modules::finder::{Foresight, PlannedModule, Start};
use econtext_proto::pickle::PickleError;
use econtext_proto::wire::handles::LOAD;
use econtext_proto::{CallSpec, Handle, ModuleKind, ModuleRecord, Value, to_value};
use std::sync::Arc;
use std::time::Instant;

/// The module by which code there knows which host it is on.
const TARGET: &str = "econtext.target";

/// The path that stands for these files of all distributions; the same constant is in `files.py`.
const ENTRY_POINTS: &str = "*/entry_points.txt";
/// The most bytes of a small directory of files.
const LITTLE: u64 = 1 << 20;
/// The path that stands for a list of all distributions.
const DISTRIBUTIONS: &str = "@";
/// The depth to which directories are looked into for a tree of files.
const MAX_DEPTH: usize = 64;

impl Link {
    /// The modules that a call will import and that this child has not been sent.
    fn foresee(&self, start: Start<'_>) -> Option<Arc<Foresight>> {
        if self.push_budget == 0 {
            return None;
        }
        self.finder.as_ref().map(|finder| finder.foresee(start))
    }

    /// Sends the modules that a call needs ahead of it, if they are known without reading files.
    /// Otherwise all messages from now on wait until the finder's thread has read the files.
    pub(super) fn push_for_call(&self, state: &mut State, spec: &CallSpec, program: Option<Start<'_>>) {
        let function = match &spec.class {
            Some(class) => format!("{class}.{}", spec.function),
            None => spec.function.clone(),
        };
        let key = format!("{}:{function}", spec.module);
        let key = if program.is_some() { None } else { Some(key) };
        if key.as_ref().is_some_and(|key| state.served.done.contains(key)) {
            return;
        }
        if let Some(record) = agent::find(&spec.module) {
            let own = PlannedModule { module: Arc::new(record), importer: String::new() };
            self.push(state, &Foresight { modules: vec![own], ..Foresight::default() });
        }
        let start = program.unwrap_or(Start::Function(&spec.module, &function));
        match self.finder.as_ref().filter(|_| self.push_budget > 0).map(|finder| finder.foreseen(start)) {
            // There are no modules to send.
            None => state.served.done.extend(key),
            Some(Some(foresight)) => {
                if self.push(state, &foresight) {
                    state.served.done.extend(key);
                }
            }
            Some(None) => {
                let gate = state.session.hold();
                state.served.ahead.push_back(Ahead { start: start.into(), key, gate });
            }
        }
    }

    /// Reads the modules that the first waiting call will import, sends them, and releases the
    /// call; called on the finder's thread. Returns whether there was such a call.
    fn let_call_go(&self) -> bool {
        let ahead = self.lock().served.ahead.pop_front();
        let Some(Ahead { start, key, gate }) = ahead else { return false };
        let foresight = self.foresee(start.borrow());
        let mut state = self.lock();
        if foresight.is_none_or(|foresight| self.push(&mut state, &foresight)) {
            state.served.done.extend(key);
        }
        state.session.open(gate);
        state.flush();
        true
    }

    /// Makes the child run a module of the agent that has handlers, once.
    pub(super) fn load(&self, state: &mut State, name: &str) -> Result<(), PickleError> {
        if state.served.loaded.contains(name) {
            return Ok(());
        }
        state.session.push_modules(agent::find(name).as_ref(), &[])?;
        state.session.send(LOAD, &Value::from(name))?;
        state.served.loaded.insert(name.to_owned());
        Ok(())
    }

    /// Sends modules ahead, each once, within the budget; returns whether that was enough for all.
    fn push(&self, state: &mut State, foresight: &Foresight) -> bool {
        let mut left = self.push_budget;
        let mut records = Vec::new();
        let mut all = true;
        for PlannedModule { module, .. } in &foresight.modules {
            let size = module.size() + 64;
            if size > left && !module.name.starts_with("econtext.") {
                all = false;
                break;
            }
            if !state.served.has(&module.name) {
                left = left.saturating_sub(size);
                records.push(&**module);
            }
        }
        let absent: Vec<&str> = foresight
            .absent
            .iter()
            .map(String::as_str)
            .filter(|name| !state.served.sent.contains(*name))
            .collect();
        if records.is_empty() && absent.is_empty() {
            return all;
        }
        let spools =
            records.iter().any(|record| record.children.iter().any(|(name, _)| name == LOOKS_BESIDE));
        let wanted = [(agent::FILES, foresight.files || spools), (agent::SPOOL, spools)];
        let own: Vec<ModuleRecord> = wanted
            .iter()
            .filter(|(name, wanted)| *wanted && !state.served.sent.contains(*name))
            .filter_map(|(name, _)| agent::find(name))
            .collect();
        records.extend(&own);
        // Modules that do not fit will be asked for.
        if state.session.push_modules(records.iter().copied(), &absent).is_err() {
            return false;
        }
        state.served.sent.extend(records.iter().map(|r| r.name.clone()));
        state.served.sent.extend(absent.into_iter().map(str::to_owned));
        all
    }

    /// Whether the finder's thread is to be told of work; it is then taken to have been told.
    pub(super) fn schedule(state: &mut State) -> bool {
        let asked = state.served.is_asked() && state.session.queued_bytes() <= MAX_UNSENT;
        let tell = (asked || state.served.has_calls()) && !state.served.scheduled;
        state.served.scheduled |= tell;
        tell
    }

    /// Answers a child; called on the finder's thread. Returns whether there are more questions to
    /// answer.
    pub(crate) fn answer(&self, shared: &dyn Scheduler) -> bool {
        for _ in 0..IN_A_ROW {
            if self.let_call_go() {
                continue;
            }
            let mut state = self.lock();
            let was_full = state.served.is_full();
            let room = state.session.queued_bytes() <= MAX_UNSENT;
            let Some(wanted) = (if room { state.served.open.pop_front() } else { None }) else {
                state.served.scheduled = false;
                if state.served.has_calls() {
                    state.served.scheduled = true;
                    return true;
                }
                if state.served.is_asked() {
                    drop(state);
                    shared.wake_at(Instant::now() + LOOK_AGAIN, self.index());
                }
                return false;
            };
            let heard_again = was_full && !state.served.is_full();
            drop(state);
            self.answer_one(&wanted);
            if heard_again {
                shared.wake_at(Instant::now(), self.index());
            }
        }
        true
    }

    fn answer_one(&self, wanted: &Request) {
        match wanted {
            Request::Module(reply_to, name) => self.answer_module(*reply_to, name),
            Request::File(reply_to, path, offset) => self.answer_file(*reply_to, path, *offset),
            Request::Tree(reply_to, path, limit) => self.answer_trees(*reply_to, path, *limit),
        }
    }

    fn answer_module(&self, reply_to: Handle, name: &str) {
        let own = agent::find(name).or_else(|| (name == TARGET).then(|| self.target_module())).map(Arc::new);
        let mut found = own.or_else(|| self.finder.as_ref()?.find(name));
        if name == "__main__" && found.is_none() {
            // Libraries look there for names that a program may have defined. A controller that is
            // no Python has defined none.
            found = Some(Arc::new(ModuleRecord {
                name: name.to_owned(),
                kind: ModuleKind::Module,
                path: "__main__.py".to_owned(),
                source: Some(Arc::from(deflate(b""))),
                children: Vec::new(),
            }));
        }
        tracing::debug!(target: "econtext", context = self.name, module = name, found = found.is_some(), "module");
        // The modules that it imports in turn go ahead of the answer.
        let top = name.split('.').next().unwrap_or_default();
        let asked = {
            let mut state = self.lock();
            // Absent names are not kept: a child may make up any number.
            if found.is_some() {
                state.served.sent.insert(name.to_owned());
                let asked = state.served.asked.entry(top.to_owned()).or_default();
                *asked += 1;
                *asked
            } else {
                0
            }
        };
        let start = match asked {
            1 => Start::Module(name),
            // A child that asks again, for imports in functions or in strings, will ask for more.
            3 => Start::WholePackage(name),
            _ => Start::WithFunctions(name),
        };
        let foresight = if found.is_some() { self.foresee(start) } else { None };
        let mut state = self.lock();
        if let Some(foresight) = foresight {
            self.push(&mut state, &foresight);
        }
        if let Err(error) = state.session.provide_module(reply_to, found.as_deref()) {
            tracing::warn!(target: "econtext", context = self.name, module = name, "cannot send: {error}");
        }
        state.flush();
    }

    /// The module that says which host the child is on.
    fn target_module(&self) -> ModuleRecord {
        let usual =
            || format!("name, groups, vars, position, count = {}, [], {{}}, 1, 1\n", literal(&self.name));
        let source = self.target.clone().unwrap_or_else(usual);
        let path = "econtext/target.py".to_owned();
        module_record(TARGET, ModuleKind::Module, path, Some(source.as_bytes()), Vec::new())
    }

    fn answer_file(&self, reply_to: Handle, path: &str, offset: u64) {
        let found = self.finder.as_ref().and_then(|finder| finder.read(path, offset));
        tracing::debug!(target: "econtext", context = self.name, path, offset, found = found.is_some(), "file");
        let answer = found.as_ref().map_or(Value::None, FileAnswer::to_value);
        let mut state = self.lock();
        // Chunks and listings are far below the limit of a frame, unless that was set very low:
        // then the answer is that there is no file.
        if state.session.send_ahead(reply_to, &answer).is_err() {
            let _ = state.session.send_ahead(reply_to, &Value::None);
        }
        state.flush();
    }

    /// Sends all files below a path: of one tree, of all distributions, or of the one that is named behind an `@`.
    fn answer_trees(&self, reply_to: Handle, path: &str, limit: u64) {
        tracing::debug!(target: "econtext", context = self.name, path, "tree");
        let mut left = if limit == 0 { u64::MAX } else { limit };
        let wanted = path.strip_prefix('@').map(normal_name);
        if path == ENTRY_POINTS || wanted.is_some() {
            let all = self.finder.as_ref().map_or(Vec::new(), |finder| distributions(&**finder));
            // A child that asks for one may ask for others, most of which are not there.
            let names: Vec<&str> = all.iter().map(|d| d.directory.as_str()).collect();
            let _ = self.send_piece(reply_to, DISTRIBUTIONS, true, names.join("\n").as_bytes());
            let parts: &[&str] = match wanted {
                Some(_) => &["METADATA", "PKG-INFO", "entry_points.txt", "top_level.txt"],
                None => &["entry_points.txt"],
            };
            for found in all.iter().filter(|d| wanted.as_ref().is_none_or(|wanted| d.name == *wanted)) {
                for part in parts {
                    self.answer_tree(reply_to, &format!("{}/{part}", found.directory), 0, &mut left);
                }
            }
        } else {
            self.answer_tree(reply_to, self.small_ancestor(path), 0, &mut left);
        }
        // A child that is gone needs no end of the list.
        let _ = self.reply(reply_to, &Value::None);
    }

    /// The highest directory above a path that is in a package and still small: more of it will be
    /// asked for.
    fn small_ancestor<'a>(&self, path: &'a str) -> &'a str {
        let mut found = path;
        while let Some((above, _)) = found.rsplit_once('/')
            && above.contains('/')
            && self.size_of_tree(above, 0, LITTLE).is_some()
        {
            found = above;
        }
        found
    }

    /// The bytes of all files below a path, if they are not over a limit.
    fn size_of_tree(&self, path: &str, depth: usize, limit: u64) -> Option<u64> {
        let finder = self.finder.as_ref().filter(|_| depth < MAX_DEPTH)?;
        let Some(FileAnswer::Directory(entries)) = finder.read(path, 0) else { return Some(0) };
        entries.iter().try_fold(0, |sum: u64, (name, directory, size)| {
            let size = if *directory {
                self.size_of_tree(&format!("{path}/{name}"), depth + 1, limit - sum)?
            } else {
                *size
            };
            sum.checked_add(size).filter(|sum| *sum <= limit)
        })
    }

    /// Sends a piece of a file, the first of it or not; returns whether that succeeded.
    fn send_piece(&self, reply_to: Handle, path: &str, first: bool, data: &[u8]) -> bool {
        let piece = (path, first, Value::Bytes(deflate(data)));
        to_value(&piece).is_ok_and(|piece| self.reply(reply_to, &piece).is_ok())
    }

    /// Sends a part of an answer, which nothing holds back.
    fn reply(&self, reply_to: Handle, value: &Value) -> Result<(), PickleError> {
        let mut state = self.lock();
        let result = state.session.send_ahead(reply_to, value);
        state.flush();
        result
    }

    /// Sends the files below a path, each whole or not at all.
    fn answer_tree(&self, reply_to: Handle, path: &str, depth: usize, left: &mut u64) {
        let Some(finder) = self.finder.as_ref().filter(|_| depth < MAX_DEPTH) else { return };
        let mut offset = 0;
        loop {
            match finder.read(path, offset) {
                Some(FileAnswer::Directory(entries)) => {
                    for (name, ..) in entries {
                        self.answer_tree(reply_to, &format!("{path}/{name}"), depth + 1, left);
                    }
                    return;
                }
                Some(FileAnswer::File { size, chunk }) => {
                    if offset == 0 {
                        match left.checked_sub(size) {
                            Some(rest) => *left = rest,
                            None => return,
                        }
                    }
                    let sent = self.send_piece(reply_to, path, offset == 0, &chunk);
                    offset += chunk.len() as u64;
                    if !sent || chunk.is_empty() || offset >= size {
                        return;
                    }
                }
                None => return,
            }
        }
    }
}

/// Writes a string literal that every Python reads.
fn literal(text: &str) -> String {
    let mut out = String::from("u'");
    for c in text.chars() {
        match c {
            '\'' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('\'');
    out
}

//! The output at the end of a run: folded, as differences, as a table, as one document.

use super::events::{Event, write_outcome};
use crate::outcome::Outcome;
use crate::output::console::{Console, HOST};
use crate::output::json::{plain, write_data, write_str, write_value};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use econtext::{Hello, LogRecord, Value};
use econtext_fleet::fold;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

/// The output of hosts, in their order.
#[derive(Debug, Default)]
pub(super) struct Collected(BTreeMap<usize, Host>);

#[derive(Debug, Default)]
struct Host {
    name: String,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    items: Vec<Value>,
    outcome: Option<(Outcome, Duration)>,
    /// Events that only the document shows.
    start: Option<Event>,
    log: Vec<Event>,
}

impl Collected {
    fn host(&mut self, index: usize, name: &str) -> &mut Host {
        let host = self.0.entry(index).or_default();
        if host.name.is_empty() {
            name.clone_into(&mut host.name);
        }
        host
    }

    pub(super) fn started(&mut self, index: usize, name: &str, hello: &Hello, connected: Duration) {
        self.host(index, name).start = Some(Event::started(name, hello, connected));
    }

    pub(super) fn output(&mut self, index: usize, name: &str, fd: u8, data: &[u8]) {
        let host = self.host(index, name);
        if fd == 2 { &mut host.stderr } else { &mut host.stdout }.extend_from_slice(data);
    }

    pub(super) fn log(&mut self, index: usize, name: &str, record: &LogRecord) {
        self.host(index, name).log.push(Event::log(name, record));
    }

    pub(super) fn item(&mut self, index: usize, name: &str, item: &Value) {
        self.host(index, name).items.push(item.clone());
    }

    pub(super) fn result(&mut self, index: usize, name: &str, outcome: &Outcome, elapsed: Duration) {
        self.host(index, name).outcome = Some((outcome.clone(), elapsed));
    }

    /// Shows equal texts once, each under its hosts, the largest set first.
    pub(super) fn fold(&self, console: &mut Console, show_none: bool) {
        for (hosts, text) in self.groups(|host| host.data(show_none)) {
            console.block(1, &heading(&hosts), &text);
        }
        self.errors(console);
    }

    fn errors(&self, console: &mut Console) {
        for (hosts, text) in self.groups(|host| host.stderr.clone()) {
            console.block(2, &heading(&hosts), &text);
        }
    }

    /// Shows the most frequent text, then how each other set of hosts differs from it.
    pub(super) fn diff(&self, console: &mut Console, show_none: bool) {
        let mut groups = self.groups(|host| host.data(show_none)).into_iter();
        if let Some((hosts, most)) = groups.next() {
            console.block(1, &heading(&hosts), &most);
            let most = String::from_utf8_lossy(&most).into_owned();
            for (hosts, text) in groups {
                let text = String::from_utf8_lossy(&text);
                let diff = similar::TextDiff::from_lines(most.as_str(), &text);
                console.block(1, &heading(&hosts), diff.unified_diff().to_string().as_bytes());
            }
        }
        self.errors(console);
    }

    /// The hosts grouped by their texts; hosts without a text are left out.
    fn groups(&self, text: impl Fn(&Host) -> Vec<u8>) -> Vec<(Vec<&str>, Vec<u8>)> {
        let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut groups: Vec<(Vec<&str>, Vec<u8>)> = Vec::new();
        for host in self.0.values() {
            let text = text(host);
            if text.is_empty() {
                continue;
            }
            let place = *places.entry(text.clone()).or_insert_with(|| {
                groups.push((Vec::new(), text));
                groups.len() - 1
            });
            groups[place].0.push(&host.name);
        }
        // The sort is stable: of sets of equal size, the one whose host came first is first.
        groups.sort_by_key(|(hosts, _)| std::cmp::Reverse(hosts.len()));
        groups
    }

    /// Shows a row for each host, or several for one that has a list of dicts: the keys of a dict
    /// are columns, and so is the printed output.
    pub(super) fn table(&self, console: &mut Console) {
        let mut columns: Vec<String> = vec!["host".into()];
        let mut known: HashSet<String> = columns.iter().cloned().collect();
        let mut texts: HashSet<String> = columns.iter().cloned().collect();
        let mut rows: Vec<HashMap<String, String>> = Vec::new();
        for host in self.0.values() {
            for cells in host.rows() {
                let mut row = HashMap::from([("host".to_owned(), host.name.clone())]);
                for Cell { column, text, is_number } in cells {
                    let column = String::from_utf8_lossy(&console.clean(1, column.as_bytes())).into_owned();
                    if known.insert(column.clone()) {
                        columns.push(column.clone());
                    }
                    if !is_number {
                        texts.insert(column.clone());
                    }
                    let text = String::from_utf8_lossy(&console.clean(1, text.as_bytes())).into_owned();
                    row.insert(column, text);
                }
                rows.push(row);
            }
        }
        if !rows.is_empty() {
            let mut table = Table::new();
            table.load_style(NOTHING);
            if let Some(width) = console.width() {
                table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            }
            table.set_header(&columns);
            for mut row in rows {
                table.add_row(columns.iter().map(|column| row.remove(column).unwrap_or_default()));
            }
            for (column, name) in table.column_iter_mut().zip(&columns) {
                if !texts.contains(name) {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
            let mut lines: Vec<String> = table
                .lines()
                .map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned())
                .collect();
            if let Some(header) = lines.first_mut() {
                *header = console.styled(1, HOST.bold(), header);
            }
            console.write(1, (lines.join("\n") + "\n").as_bytes());
        }
        self.errors(console);
    }

    /// Shows all in one JSON object.
    pub(super) fn json(&self, console: &mut Console, summary: &Event) {
        let mut out = String::from("{\"v\":1,\"results\":[");
        for (i, host) in self.0.values().enumerate() {
            if i > 0 {
                out.push(',');
            }
            out.push_str("{\"host\":");
            write_str(&mut out, &host.name);
            if let Some(start) = &host.start {
                out.push_str(",\"start\":");
                out.push_str(&start.clone().into_object());
            }
            if let Some((outcome, elapsed)) = &host.outcome {
                write_outcome(&mut out, outcome);
                out.push_str(&format!(",\"elapsed_ms\":{}", elapsed.as_millis()));
            }
            for (name, data) in [("stdout", &host.stdout), ("stderr", &host.stderr)] {
                if !data.is_empty() {
                    out.push_str(&format!(",\"{name}\":"));
                    write_data(&mut out, data);
                }
            }
            if !host.items.is_empty() {
                out.push_str(",\"items\":");
                write_value(&mut out, &Value::List(host.items.clone()));
            }
            if !host.log.is_empty() {
                let log: Vec<String> = host.log.iter().map(|event| event.clone().into_object()).collect();
                out.push_str(&format!(",\"log\":[{}]", log.join(",")));
            }
            out.push('}');
        }
        out.push_str("],\"summary\":");
        out.push_str(&summary.clone().into_object());
        out.push_str("}\n");
        console.write(1, out.as_bytes());
    }
}

impl Host {
    /// The stdout of the host, its items and its result, as lines.
    fn data(&self, show_none: bool) -> Vec<u8> {
        let mut text = self.stdout.clone();
        let mut line = |value: &Value| {
            if !text.is_empty() && !text.ends_with(b"\n") {
                text.push(b'\n');
            }
            text.extend_from_slice(plain(value).as_bytes());
            text.push(b'\n');
        };
        self.items.iter().for_each(&mut line);
        match self.outcome.as_ref().and_then(|(outcome, _)| outcome.value()) {
            Some(Value::None) if !show_none || !self.items.is_empty() => {}
            Some(value) => line(value),
            None => {}
        }
        if !text.is_empty() && !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        text
    }

    /// The rows of a table.
    fn rows(&self) -> Vec<Vec<Cell>> {
        let mut rows: Vec<Vec<Cell>> = match &self.outcome {
            Some((Outcome::Exit(status), _)) => vec![vec![Cell::of("status", &Value::Int((*status).into()))]],
            Some((outcome, _)) => match outcome.value() {
                None | Some(Value::None) => Vec::new(),
                Some(value) => records(value).unwrap_or_else(|| vec![vec![Cell::of("value", value)]]),
            },
            None => Vec::new(),
        };
        if !self.items.is_empty() {
            match records(&Value::List(self.items.clone())) {
                Some(items) => rows.extend(items),
                None => {
                    let items: Vec<String> = self.items.iter().map(plain).collect();
                    Self::beside(&mut rows, "items", items.join("\n"));
                }
            }
        }
        if !self.stdout.is_empty() {
            let text = String::from_utf8_lossy(&self.stdout).trim_end().to_owned();
            Self::beside(&mut rows, "stdout", text);
        }
        rows
    }

    /// Adds a text to the first row.
    fn beside(rows: &mut Vec<Vec<Cell>>, column: &str, text: String) {
        if rows.is_empty() {
            rows.push(Vec::new());
        }
        rows[0].push(Cell { column: column.to_owned(), text, is_number: false });
    }
}

/// A field of a table.
struct Cell {
    column: String,
    text: String,
    is_number: bool,
}

impl Cell {
    fn of(column: &str, value: &Value) -> Self {
        let is_number = matches!(value, Value::Int(_) | Value::BigInt(_) | Value::Float(_));
        Cell { column: column.to_owned(), text: plain(value), is_number }
    }
}

/// The rows of a dict, or of a list of nothing but dicts.
fn records(value: &Value) -> Option<Vec<Vec<Cell>>> {
    let row = |value: &Value| match value {
        Value::Dict(items) => {
            Some(items.iter().map(|(key, value)| Cell::of(&plain(key), value)).collect::<Vec<_>>())
        }
        _ => None,
    };
    match value {
        Value::Dict(_) => Some(vec![row(value)?]),
        Value::List(items) | Value::Tuple(items) if !items.is_empty() => items.iter().map(row).collect(),
        _ => None,
    }
}

/// The heading of a set of hosts: `web[01-20] (20)`.
fn heading(hosts: &[&str]) -> String {
    match hosts {
        [one] => (*one).to_owned(),
        many => format!("{} ({})", fold(many), many.len()),
    }
}

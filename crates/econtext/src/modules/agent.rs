//! The modules of the agent, the Python that runs in children, that are sent on first use.

use econtext_proto::{ModuleKind, ModuleRecord};
use std::sync::Arc;

/// The module that reads files beside served modules.
pub(crate) const FILES: &str = "econtext.files";

/// The module that makes files of packages that look for them.
pub(crate) const SPOOL: &str = "econtext.spool";

/// The module for processes beside the child, with handlers of its own.
pub(crate) const PROCESS: &str = "econtext.process";

/// The module that connects back.
pub(crate) const BACK: &str = "econtext.back";

/// The module that reads frames of megabytes.
pub(crate) const BULK: &str = "econtext.bulk";

/// The module for results for controllers that are Python programs.
pub(crate) const RICH: &str = "econtext.rich";

/// The module that sends the items of generators.
pub(crate) const STREAM: &str = "econtext.stream";

/// The name, path and zlib content of each module; the build makes the list from the files of
/// `agent/`.
const MODULES: &[(&str, &str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/agent_modules.rs"));

/// The agent's own module called `name`.
pub(crate) fn find(name: &str) -> Option<ModuleRecord> {
    MODULES.iter().find(|(known, ..)| *known == name).map(|(name, path, source)| ModuleRecord {
        name: (*name).to_owned(),
        kind: ModuleKind::Module,
        path: (*path).to_owned(),
        source: Some(Arc::from(*source)),
        children: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    fn agent(file: &str) -> String {
        std::fs::read_to_string(econtext_testkit::repository("crates/econtext/agent").join(file)).unwrap()
    }

    /// The names that a line of Python gives numbers: `A, B = 1, 2`.
    fn numbers(line: &str) -> BTreeMap<String, i64> {
        let (names, values) = line.split_once(" = ").unwrap();
        let values: Vec<i64> = values
            .split('#')
            .next()
            .unwrap()
            .split(',')
            .map(|value| match value.trim().split_once(" << ") {
                Some((one, by)) => one.parse::<i64>().unwrap() << by.parse::<u32>().unwrap(),
                None => value.trim().parse().unwrap(),
            })
            .collect();
        names.split(',').map(|name| name.trim().to_owned()).zip(values).collect()
    }

    #[test]
    fn the_list_of_modules_is_the_controllers_alone() {
        // A star stands for children that the child does not know: it asks for each.
        assert!(agent("core.py").contains("{'econtext': Record(PACKAGE, '', None, '*')}"));
    }

    #[test]
    fn the_agent_knows_the_same_kinds_of_messages() {
        use econtext_proto::wire::{process, transfer};
        for (file, kinds) in [
            ("in_core/process.py", &process::FROM_CHILD[..]),
            ("in_core/process.py", &process::TO_CHILD),
            ("imported/transfer.py", &transfer::KINDS),
        ] {
            let names: Vec<&str> = kinds.iter().map(|(name, _)| *name).collect();
            assert!(kinds.iter().enumerate().all(|(at, (_, number))| at as i64 == *number));
            let line = format!("{} = range({})", names.join(", "), names.len());
            assert!(agent(file).lines().any(|found| found == line), "{file}: {line}");
        }
    }

    #[test]
    fn the_agent_knows_the_same_handles_and_kinds() {
        use econtext_proto::ModuleKind;
        use econtext_proto::wire::handles::HANDLES;
        let core = agent("core.py");
        let mut found = BTreeMap::new();
        for start in ["FORWARD_LOG, ", "CALL_FUNCTION, ", "FIRST_HANDLE ="] {
            found.extend(numbers(core.lines().find(|line| line.starts_with(start)).unwrap()));
        }
        for (file, start) in [("in_core/rich.py", "DEFINE ="), ("in_core/back.py", "BACK =")] {
            found.extend(numbers(agent(file).lines().find(|line| line.starts_with(start)).unwrap()));
        }
        for (name, handle) in HANDLES {
            assert_eq!(found.remove(name), Some(handle.0), "{name}");
        }
        assert_eq!(found.into_keys().collect::<Vec<_>>(), ["FIRST_HANDLE"]);
        let kinds = core.lines().find(|line| line.starts_with("MODULE, ")).unwrap();
        assert_eq!(kinds, "MODULE, PACKAGE, NAMESPACE, COMPILED, REFUSED = range(5)");
        assert_eq!(
            [
                ModuleKind::Module,
                ModuleKind::Package,
                ModuleKind::Namespace,
                ModuleKind::Compiled,
                ModuleKind::Refused
            ]
            .map(|kind| kind as i64),
            [0, 1, 2, 3, 4]
        );
    }
}

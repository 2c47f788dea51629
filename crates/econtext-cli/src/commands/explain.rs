//! A preview of a run, without running it.

use crate::output::console::print;
use crate::run::plan::Plan;
use econtext::Error;
use econtext::modules::{Foresight, ModuleKind, PlannedModule};
use econtext::transport::shell_join;
use econtext_fleet::Identity;
use std::fmt::Write as _;

/// Shows what would happen.
pub(crate) fn explain(
    plan: &Plan<'_>,
    what: &dyn Fn(usize) -> Result<String, Error>,
    foresight: Option<&Foresight>,
) -> anyhow::Result<u8> {
    Ok(print(text(plan, what, foresight)?.as_bytes()))
}

/// Shows the words of a verb as each host would have them, and how the host would be reached.
pub(crate) fn explain_words(plan: &Plan<'_>, verb: &str) -> anyhow::Result<u8> {
    let identities = Identity::all(&plan.inventory, &plan.targets);
    let words = |index: usize| {
        let words = plan.rest.iter().map(|word| identities[index].expand(word));
        let words = words.collect::<Result<Vec<_>, _>>().map_err(|error| Error::Usage(error.0))?;
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        Ok(format!("{verb} {}", shell_join(&words)))
    };
    explain(plan, &words, None)
}

/// The work of each host, the commands that would start its child, and the modules that would be
/// sent ahead: their bytes as sent, and the module that imports each. At `-v` the commands are
/// whole.
fn text(
    plan: &Plan<'_>,
    what: &dyn Fn(usize) -> Result<String, Error>,
    foresight: Option<&Foresight>,
) -> Result<String, Error> {
    let mut out = String::new();
    let hops = plan.hops();
    let whole = plan.common.verbose > 0;
    for (index, target) in plan.targets.iter().enumerate() {
        let _ = writeln!(out, "{}: {}", target.name, what(index)?);
        for (depth, command) in target.commands(&hops.of(target)?, whole).iter().enumerate() {
            let by = if depth == 0 { "by" } else { "and there by" };
            let _ = writeln!(out, "  {by} {command}");
        }
    }
    let Some(foresight) = foresight else { return Ok(out) };
    let mut total = 0;
    for PlannedModule { module, importer } in &foresight.modules {
        let size = module.size();
        total += size;
        let why = match importer.as_str() {
            "" => "called".to_owned(),
            importer => format!("imported by {importer}"),
        };
        let what = match module.kind {
            ModuleKind::Compiled | ModuleKind::Refused => format!(" (not sent: {})", module.path),
            _ => String::new(),
        };
        let _ = writeln!(out, "{size:>8}  {}  {why}{what}", module.name);
    }
    let _ = writeln!(
        out,
        "{total:>8}  bytes in {} modules, for each host that lacks them",
        foresight.modules.len()
    );
    Ok(out)
}

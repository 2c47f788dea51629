//! What would happen, without doing it.

use crate::plan::Plan;
use econtext::{Error, Foreseen, Foresight, ModuleKind};
use std::fmt::Write as _;

/// What each host would do, by which commands its child would be started, and the modules that would go ahead: bytes as sent,
/// and which module imports them. At `-v` the commands are whole.
pub(crate) fn text(
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
    for Foreseen { module, importer } in &foresight.modules {
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

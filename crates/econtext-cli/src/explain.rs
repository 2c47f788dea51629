//! What would happen, without doing it.

use econtext::{Error, Foreseen, Foresight, ModuleKind};
use econtext_fleet::{Hops, Target};
use std::fmt::Write as _;

/// The command of every target, and the modules that would go ahead: bytes as sent, and who imports them.
pub(crate) fn text(targets: &[Target], hops: &Hops, foresight: &Foresight) -> Result<String, Error> {
    let mut out = String::new();
    for target in targets {
        for (depth, command) in target.commands(&hops.of(target)?).iter().enumerate() {
            let then = if depth == 0 { "" } else { "then there: " };
            let _ = writeln!(out, "{}: {then}{command}", target.name);
        }
    }
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

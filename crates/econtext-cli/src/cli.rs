//! The way from a command line to the verb that it names.

use crate::args::{Cli, Exec, Hosts, Usage, Verb};
use crate::commands::copy::Words;
use crate::commands::explain::{explain, explain_words};
use crate::commands::{call, copy, exec, man, repl, run};
use crate::config::Config;
use crate::input::Inputs;
use crate::output::console::{complain, print};
use crate::run::plan::{Plan, inventory, selection};
use crate::run::{ReportOptions, Run, everywhere};
use econtext::PathFinder;
use econtext_fleet::{Identity, fold};
use std::ffi::OsString;
use std::io::{self, IsTerminal as _};

/// Runs the command and returns the exit status.
pub(crate) fn run(cli: &Cli, argv: &[OsString], config: &Config) -> anyhow::Result<u8> {
    let common = match (&cli.verb, cli.verb.common()) {
        (_, Some(common)) => common,
        (Verb::Hosts(wanted), None) => return show_hosts(wanted),
        (Verb::Completions(wanted), None) => return man::completions(wanted, config),
        (Verb::Man(wanted), None) => return man::page(wanted.verb.as_deref()),
        (_, None) => return Err(Usage("explain needs a verb, as in econtext explain call ...".into()).into()),
    };
    set_up_log(common.verbose);
    let plan = Plan::make(common, argv)?;
    if plan.targets.is_empty() {
        if !common.quiet {
            complain("--rerun: the last run left no such host: nothing is to be done");
        }
        return Ok(0);
    }
    if common.list_hosts {
        let names: String = plan.targets.iter().map(|target| format!("{}\n", target.name)).collect();
        return Ok(print(names.as_bytes()));
    }
    let explained = cli.explain || common.dry_run;
    match &cli.verb {
        Verb::Call(_) => call::call(plan, explained),
        Verb::Run(_) => run::run(plan, explained),
        Verb::Exec(exec) => run_command(exec, plan, explained),
        Verb::Ping(_) | Verb::Repl(_) if explained => {
            let verb = if matches!(cli.verb, Verb::Ping(_)) { "ping" } else { "repl" };
            explain(&plan, &|_| Ok(verb.to_owned()), None)
        }
        Verb::Put(wanted) => {
            let words = Words::split("put", plan.rest)?;
            words.check_sources(&Identity::all(&plan.inventory, &plan.targets))?;
            if cli.explain {
                return explain_words(&plan, "put");
            }
            everywhere(plan, PathFinder::new(), COPIES, |host| match wanted.common.dry_run {
                true => copy::would_put(wanted, words, host),
                false => copy::put(wanted, words, host),
            })
        }
        Verb::Get(wanted) => {
            let words = Words::split("get", plan.rest)?;
            copy::check_get(wanted)?;
            if cli.explain {
                return explain_words(&plan, "get");
            }
            everywhere(plan, PathFinder::new(), COPIES, |host| match wanted.common.dry_run {
                true => copy::would_get(wanted, words, host),
                false => copy::get(wanted, words, host),
            })
        }
        Verb::Repl(_) => repl::run(plan),
        _ => call::ping(plan),
    }
}

fn show_hosts(wanted: &Hosts) -> anyhow::Result<u8> {
    let inventory = inventory(&wanted.choice)?;
    let selection = selection(&wanted.choice, wanted.specs.iter().collect());
    if selection.specs.is_empty() && selection.groups.is_empty() && !selection.all {
        return Err(Usage("hosts needs SPEC, -g or -a".into()).into());
    }
    let names = selection.names(&inventory).map_err(Usage::from)?;
    let text = match wanted {
        Hosts { count: true, .. } => format!("{}\n", names.len()),
        Hosts { fold: true, .. } => fold(&names) + "\n",
        Hosts { vars: true, .. } => names
            .iter()
            .map(|name| {
                let groups = inventory.groups_of(name);
                let vars = inventory.variables(name);
                format!("{}\n", serde_json::json!({"host": name, "groups": groups, "vars": vars}))
            })
            .collect(),
        _ => names.iter().map(|name| format!("{name}\n")).collect(),
    };
    let status = print(text.as_bytes());
    Ok(if names.is_empty() { 2 } else { status })
}

const COPIES: ReportOptions = ReportOptions { forward_log: true, show_none: false, copies: true };

fn run_command(exec: &Exec, plan: Plan<'_>, explained: bool) -> anyhow::Result<u8> {
    let rest = plan.rest;
    if rest.is_empty() {
        return Err(Usage("exec needs -- CMD [ARG]...".into()).into());
    }
    if explained {
        return explain_words(&plan, "exec");
    }
    let inputs = Inputs::start(plan.targets.len(), false);
    if exec.raw {
        exec::check_raw(&exec.common, &plan.targets)?;
        let run = Run::start(plan, ReportOptions::default())?;
        let job = run.job()?;
        let outcomes = job
            .pool(&run.plan.targets, |index, target| exec::raw((exec, rest), (index, target), &inputs, &job));
        return Ok(run.finish(&outcomes));
    }
    let manner = ReportOptions { forward_log: true, ..ReportOptions::default() };
    everywhere(plan, PathFinder::new(), manner, |host| exec::exec(exec, rest, &inputs, host))
}

fn set_up_log(verbose: u8) {
    let level = match verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    // The report shows the records of hosts.
    struct Ours;
    impl<S> tracing_subscriber::layer::Filter<S> for Ours {
        fn enabled(
            &self,
            metadata: &tracing::Metadata<'_>,
            _: &tracing_subscriber::layer::Context<'_, S>,
        ) -> bool {
            let target = metadata.target();
            target.starts_with("econtext") && !target.starts_with("econtext.ctx.")
        }
    }
    use tracing_subscriber::{Layer as _, layer::SubscriberExt as _};
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .without_time()
        .with_ansi(io::stderr().is_terminal())
        .with_filter(Ours);
    let subscriber = tracing_subscriber::registry()
        .with(tracing_subscriber::filter::LevelFilter::from_level(level))
        .with(layer);
    // Only a second call in one process could fail.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

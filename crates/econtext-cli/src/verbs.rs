//! The verbs: what each does on a host.

use crate::args::{Cli, Common, Exec, Hosts, Mode, Usage, Verb};
use crate::console::complain;
use crate::copy;
use crate::exec;
use crate::hosts;
use crate::input::Inputs;
use crate::job::{Host, Job, Outcome, Stop, exit_status, pool};
use crate::json::argument;
use crate::report::Report;
use crate::script;
use crate::surroundings::Surroundings;
use crate::target::{Passwords, Target, parse as parse_target, parse_list};
use anyhow::{Context as _, anyhow};
use econtext::{
    Error, ErrorKind, Foresight, ModuleFinder as _, PathFinder, Program, Start, Value, is_identifier,
};
use secrecy::SecretString;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::io::{self, IsTerminal as _, Read as _};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// Runs the command and says what the exit status is.
pub(crate) fn run(cli: Cli) -> anyhow::Result<u8> {
    if let Verb::Hosts(wanted) = &cli.verb {
        return show_hosts(wanted);
    }
    let common = cli.verb.common().ok_or_else(|| Usage("no verb".into()))?;
    if common.user.as_ref().is_some_and(|u| !u.is_empty() && u.bytes().all(|b| b.is_ascii_digit())) {
        return Err(
            Usage("-u is the user, as in ansible; clush's -u SECONDS is --timeout here".into()).into()
        );
    }
    set_up_log(common.verbose);
    let (targets, rest) = targets(common)?;
    match &cli.verb {
        Verb::Call(_) => call(common, &targets, &rest, cli.explain),
        Verb::Run(_) => run_program(common, &targets, &rest, cli.explain),
        Verb::Exec(exec) => run_command(exec, &targets, &rest, cli.explain),
        Verb::Put(_) | Verb::Get(_) if cli.explain => explain(common, &targets, &Foresight::default()),
        Verb::Put(copy) => {
            let (sources, destination) = copy::split("put", &rest)?;
            copy::check_sources(sources)?;
            everywhere(common, &targets, PathFinder::new(), true, false, |host| {
                copy::put(copy, sources, destination, host)
            })
        }
        Verb::Get(copy) => {
            let (sources, directory) = copy::split("get", &rest)?;
            everywhere(common, &targets, PathFinder::new(), true, false, |host| {
                copy::get(copy, sources, directory, host)
            })
        }
        Verb::Hosts(wanted) => show_hosts(wanted),
        Verb::Ping(_) if cli.explain => explain(common, &targets, &Foresight::default()),
        Verb::Ping(_) => ping(common, &targets, &rest),
    }
}

fn show_hosts(wanted: &Hosts) -> anyhow::Result<u8> {
    use std::io::Write as _;
    let names = hosts::expand(&wanted.specs.join(","))?;
    let text = match wanted {
        Hosts { count: true, .. } => format!("{}\n", names.len()),
        Hosts { fold: true, .. } => hosts::fold(&names) + "\n",
        _ => names.iter().map(|name| format!("{name}\n")).collect(),
    };
    // A reader that has seen enough is no error.
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(if names.is_empty() { 2 } else { 0 })
}

/// The targets, and the words behind them.
fn targets(common: &Common) -> Result<(Vec<Target>, Vec<String>), Usage> {
    match (&common.targets, common.hosts.as_slice()) {
        (Some(spec), []) => Ok((parse_list(&[spec])?, common.rest.clone())),
        (None, hosts) => {
            Ok((parse_list(&hosts.iter().map(String::as_str).collect::<Vec<_>>())?, common.rest.clone()))
        }
        (Some(word), _) => Err(Usage(format!(
            "{word:?}: with -w there is no TARGETS argument; flags come before what is run"
        ))),
    }
}

fn set_up_log(verbose: u8) {
    let level = match verbose {
        0 | 1 => tracing::Level::WARN,
        2 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    // Records of hosts are shown by the report.
    struct Ours;
    impl<S> tracing_subscriber::layer::Filter<S> for Ours {
        fn enabled(
            &self,
            metadata: &tracing::Metadata<'_>,
            _: &tracing_subscriber::layer::Context<'_, S>,
        ) -> bool {
            !metadata.target().starts_with("econtext.ctx.")
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

/// What there is to every run: where it is shown, what stops it, and when it began.
struct Run<'a> {
    common: &'a Common,
    report: Arc<Report>,
    stop: Arc<Stop>,
    signal: Arc<AtomicI32>,
    started: Instant,
}

impl<'a> Run<'a> {
    fn start(common: &'a Common, targets: &[Target], show_none: bool) -> anyhow::Result<Self> {
        let started = Instant::now();
        let many = targets.len() > 1;
        let mode = if common.jsonl { Mode::Jsonl } else { common.output };
        let report = Arc::new(Report::new(mode, many, many && !common.no_prefix, common.quiet, show_none));
        let stop = Arc::new(Stop::default());
        let signal = watch_signals(&stop)?;
        Ok(Run { common, report, stop, signal, started })
    }

    /// Sums up; the exit status.
    fn finish(&self, outcomes: &[Outcome]) -> u8 {
        self.report.summary(outcomes, self.started.elapsed());
        let signal = self.signal.load(Ordering::Acquire);
        if signal != 0 {
            return u8::try_from(128 + signal).unwrap_or(1);
        }
        match outcomes {
            [Outcome::Exit(status)] if self.common.status => *status,
            [Outcome::Signal(signal)] if self.common.status => u8::try_from(128 + signal).unwrap_or(255),
            outcomes => exit_status(outcomes),
        }
    }
}

/// Runs `work` in a child on every target and reports.
fn everywhere(
    common: &Common,
    targets: &[Target],
    finder: PathFinder,
    forward_log: bool,
    show_none: bool,
    work: impl Fn(&Host<'_>) -> Outcome + Sync,
) -> anyhow::Result<u8> {
    let run = Run::start(common, targets, show_none)?;
    let log_level = match common.verbose {
        _ if !forward_log => None,
        0 => Some(30),
        1 => Some(20),
        _ => Some(10),
    };
    if let Some(tool) = common.r#become.filter(|_| !common.quiet && !common.jsonl) {
        let hosts = match targets {
            [one] => one.name.clone(),
            many => format!("{} hosts", many.len()),
        };
        let tool = format!("{tool:?}").to_lowercase();
        complain(&format!("becoming {} with {tool} on {hosts}", common.become_user));
    }
    let job = Job {
        common,
        report: run.report.clone(),
        finder: Arc::new(finder),
        surroundings: Surroundings::new(common)?,
        passwords: passwords(common)?,
        hops: hops(common)?,
        log_level,
        stop: run.stop.clone(),
    };
    Ok(run.finish(&job.run(targets, work)?))
}

/// Stops everything at the first SIGINT or SIGTERM, and this process at the second. The signal is in what is returned.
fn watch_signals(stop: &Arc<Stop>) -> anyhow::Result<Arc<AtomicI32>> {
    let seen = Arc::new(AtomicI32::new(0));
    let mut signals =
        signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).context("cannot watch for signals")?;
    let (stop, flag) = (stop.clone(), seen.clone());
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if flag.swap(signal, Ordering::AcqRel) != 0 {
                std::process::exit(128 + signal);
            }
            stop.stop();
            complain("stopping");
        }
    });
    Ok(seen)
}

/// The targets of `--via`.
fn hops(common: &Common) -> Result<Vec<Target>, Usage> {
    common.via.iter().map(|word| parse_target(word)).collect()
}

/// The passwords, from the terminal or a command. What a command prints is for both; what is asked for, for one.
fn passwords(common: &Common) -> anyhow::Result<Passwords> {
    let ask = |what: &str| -> anyhow::Result<Option<SecretString>> {
        let password = rpassword::prompt_password(format!("{what} password: "));
        Ok(Some(password.context("cannot ask for the password")?.into()))
    };
    let mut found = Passwords::default();
    if let Some(password) = password_of_command(common)? {
        found.r#become = common.r#become.map(|_| password.clone());
        found.ssh = Some(password);
    }
    if common.ask_pass {
        found.ssh = ask("ssh")?;
    }
    if common.ask_become_pass {
        found.r#become = ask("become")?;
    }
    Ok(found)
}

fn password_of_command(common: &Common) -> anyhow::Result<Option<SecretString>> {
    let Some(command) = &common.password_cmd else { return Ok(None) };
    let output = Command::new("sh")
        .args(["-c", command])
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cannot run the password command")?;
    if !output.status.success() {
        return Err(anyhow!("the password command failed: {}", output.status));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| anyhow!("the password is not UTF-8"))?;
    Ok(Some(text.lines().next().unwrap_or_default().into()))
}

/// `--path` directories, behind `first` if there is one.
fn finder(common: &Common, first: Option<&Path>) -> Result<PathFinder, Usage> {
    let mut finder = PathFinder::new();
    let bad = |directory: &Path, e: io::Error| Usage(format!("{}: {e}", directory.display()));
    if let Some(first) = first {
        finder = finder.code_root(first).map_err(|e| bad(first, e))?;
    }
    for directory in &common.path {
        finder = finder.root(directory).map_err(|e| bad(directory, e))?;
    }
    Ok(common.no_serve.iter().fold(finder, |finder, name| finder.block(name)))
}

fn explain(common: &Common, targets: &[Target], foresight: &Foresight) -> anyhow::Result<u8> {
    use std::io::Write as _;
    // A reader that has seen enough is no error.
    let text = crate::explain::text(common, targets, &hops(common)?, foresight);
    let _ = io::stdout().write_all(text.as_bytes());
    Ok(0)
}

fn call(common: &Common, targets: &[Target], rest: &[String], explained: bool) -> anyhow::Result<u8> {
    let (function, words) = rest.split_first().ok_or_else(|| Usage("call needs MODULE:FUNC".into()))?;
    let mut args = Vec::new();
    let mut kwargs: Vec<(String, Value)> = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            args.extend(words.by_ref().map(|w| Value::from(w.as_str())));
            break;
        }
        let bad = |e| Usage(format!("argument {word}: {e}"));
        match word.split_once('=').filter(|(name, _)| is_identifier(name)) {
            Some((name, value)) => {
                if kwargs.iter().any(|(known, _)| known == name) {
                    return Err(Usage(format!("argument {name}= is given twice")).into());
                }
                kwargs.push((name.to_owned(), argument(value).map_err(bad)?));
            }
            None => args.push(argument(word).map_err(bad)?),
        }
    }
    econtext::check_target(function).map_err(Usage)?;
    // As Python's -c and -m do, the working directory comes first.
    let finder = finder(common, Some(Path::new(".")))?;
    if explained {
        let (module, name) = function.split_once(':').unwrap_or_default();
        return explain(common, targets, &finder.foresee(Start::Function(module, name)));
    }
    everywhere(common, targets, finder, true, true, |host| {
        let mut call = host.context.prepare(function).args(&args);
        for (name, value) in &kwargs {
            call = call.kwarg(name, value);
        }
        if let Some(left) = host.time_left() {
            call = call.timeout(left);
        }
        call.start::<Value>().wait().into()
    })
}

fn run_command(exec: &Exec, targets: &[Target], rest: &[String], explained: bool) -> anyhow::Result<u8> {
    let common = &exec.common;
    if rest.is_empty() {
        return Err(Usage("exec needs -- CMD [ARG]...".into()).into());
    }
    if explained {
        return explain(common, targets, &Foresight::default());
    }
    let inputs = Inputs::start(targets.len(), false);
    if exec.raw {
        exec::check_raw(common)?;
        let run = Run::start(common, targets, false)?;
        let outcomes = pool(common, &run.report, &run.stop, targets, |index, target| {
            exec::raw((exec, rest), (index, target), &inputs, &run.report, &run.stop)
        });
        return Ok(run.finish(&outcomes));
    }
    everywhere(common, targets, PathFinder::new(), true, false, |host| exec::exec(exec, rest, &inputs, host))
}

fn run_program(common: &Common, targets: &[Target], rest: &[String], explained: bool) -> anyhow::Result<u8> {
    let (first, words) =
        rest.split_first().ok_or_else(|| Usage("run needs a SCRIPT.py, -c CODE or -m MODULE".into()))?;
    let here = Path::new(".");
    let (program, finder, header, args) = match split_flag(first) {
        Some((flag, joined)) => {
            let (value, args) = match joined {
                "" => words.split_first().ok_or_else(|| Usage(format!("run -{flag} needs a value")))?,
                joined => (&joined.to_owned(), words),
            };
            let program = if flag == 'c' { Program::code(value.as_str()) } else { Program::module(value) };
            (program, finder(common, Some(here))?, script::Metadata::default(), args)
        }
        None => {
            let (name, source, finder) = script(common, first)?;
            let header = script::metadata(&source)?;
            header.check(&finder)?;
            (Program::file(name, source), finder, header, words)
        }
    };
    if explained {
        return explain(common, targets, &finder.foresee(program.start()));
    }
    let program = program.args(args.iter().cloned());
    let inputs = Inputs::start(targets.len(), first == "-");
    everywhere(common, targets, finder, false, false, |host| {
        if let Some(wanted) = &header.requires_python {
            match host.context.wait_ready() {
                Ok(hello) if !script::matches(wanted, &hello.python) => {
                    let message = format!("the script needs Python {wanted}, and here is {}", hello.python);
                    return Outcome::Failed(Error::Connect {
                        kind: ErrorKind::NoPython,
                        host: host.context.name().to_owned(),
                        message,
                        stderr: String::new(),
                    });
                }
                Ok(_) => {}
                Err(error) => return Outcome::Failed(error),
            }
        }
        let (input, call) = host.context.run(&program, host.time_left());
        inputs.feed(input);
        match call.wait() {
            Ok((0, value)) => Outcome::Value(value),
            Ok((status, _)) => Outcome::Exit(status),
            Err(error) => Outcome::Failed(error),
        }
    })
}

/// A script's name and text, and the finder for what it imports.
fn script(common: &Common, first: &str) -> anyhow::Result<(String, Vec<u8>, PathFinder)> {
    let here = Path::new(".");
    if first == "-" {
        let mut source = Vec::new();
        io::stdin().read_to_end(&mut source).context("cannot read the script from stdin")?;
        return Ok(("<stdin>".to_owned(), source, finder(common, Some(here))?));
    }
    let path = Path::new(first);
    if !path.is_dir() {
        let source = std::fs::read(path).map_err(|e| Usage(format!("{first}: {e}")))?;
        // A zip file, with or without a #! line in front, ends in the record of its directory.
        let tail = &source[source.len().saturating_sub(66_000)..];
        if !tail.windows(4).any(|w| w == b"PK\x05\x06") {
            let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(here);
            return Ok((first.to_owned(), source, finder(common, Some(directory))?));
        }
    }
    let finder = finder(common, Some(path))?;
    let source = finder
        .main_of_first_root()
        .ok_or_else(|| Usage(format!("{first}: there is no __main__.py in it")))?;
    Ok((first.to_owned(), source, finder))
}

/// Splits `-c` and `-m` from what may be joined to them.
fn split_flag(word: &str) -> Option<(char, &str)> {
    let rest = word.strip_prefix('-')?;
    match rest.chars().next()? {
        flag @ ('c' | 'm') => Some((flag, &rest[1..])),
        _ => None,
    }
}

fn ping(common: &Common, targets: &[Target], rest: &[String]) -> anyhow::Result<u8> {
    if let Some(word) = rest.first() {
        return Err(Usage(format!("ping takes no {word:?}")).into());
    }
    let lines = !common.jsonl && common.output == Mode::Lines;
    everywhere(common, targets, PathFinder::new(), true, true, |host| ping_one(host, lines).into())
}

fn ping_one(host: &Host<'_>, lines: bool) -> Result<Value, Error> {
    let hello = host.context.wait_ready()?;
    let connected = host.started.elapsed();
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let before = Instant::now();
        host.context
            .prepare("os:getpid")
            .timeout(host.time_left().unwrap_or(Duration::from_secs(60)))
            .start::<i64>()
            .wait()?;
        best = best.min(before.elapsed());
    }
    let (connect, trip) = (connected.as_secs_f64() * 1e3, best.as_secs_f64() * 1e3);
    if lines {
        let text = format!(
            "Python {}, user {}, pid {}, up in {connect:.0} ms, round trip {trip:.2} ms",
            hello.python, hello.user, hello.pid
        );
        return Ok(text.into());
    }
    let milliseconds = |ms: f64| Value::Float((ms * 1000.0).round() / 1000.0);
    Ok(Value::Dict(vec![
        ("python".into(), hello.python.into()),
        ("user".into(), hello.user.into()),
        ("pid".into(), hello.pid.into()),
        ("connect_ms".into(), milliseconds(connect)),
        ("round_trip_ms".into(), milliseconds(trip)),
    ]))
}

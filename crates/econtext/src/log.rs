//! Log records of children as `tracing` events, with the target `econtext.ctx.<name>`.
//!
//! The macros of `tracing` want targets that are known when the program is compiled. These are made for each context
//! name and level when first seen, and kept: `tracing` needs them for ever.

use crate::sync::lock;
use econtext_proto::LogRecord;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, OnceLock};
use tracing::field::FieldSet;
use tracing::metadata::LevelFilter;
use tracing::{Event, Level, Metadata, Value, callsite, subscriber::Interest};

struct Callsite(OnceLock<Metadata<'static>>);

impl callsite::Callsite for Callsite {
    fn set_interest(&self, _: Interest) {} // every dispatch asks

    fn metadata(&self) -> &Metadata<'_> {
        // `metadata_for` sets it before the callsite is shared.
        self.0.get().unwrap_or_else(|| unreachable!())
    }
}

static KNOWN: LazyLock<Mutex<HashMap<(String, Level), &'static Metadata<'static>>>> =
    LazyLock::new(Mutex::default);

fn metadata_for(name: &str, level: Level) -> &'static Metadata<'static> {
    let mut known = lock(&KNOWN);
    if let Some(metadata) = known.get(&(name.to_owned(), level)) {
        return metadata;
    }
    let target: &'static str = Box::leak(format!("econtext.ctx.{name}").into_boxed_str());
    let callsite: &'static Callsite = Box::leak(Box::new(Callsite(OnceLock::new())));
    let fields = FieldSet::new(&["message", "logger"], callsite::Identifier(callsite));
    let metadata = callsite.0.get_or_init(|| {
        Metadata::new("log record", target, level, None, None, None, fields, tracing::metadata::Kind::EVENT)
    });
    callsite::register(callsite);
    known.insert((name.to_owned(), level), metadata);
    metadata
}

pub(crate) fn forward(name: &str, record: &LogRecord) {
    let level = match record.level {
        40.. => Level::ERROR,
        30.. => Level::WARN,
        20.. => Level::INFO,
        10.. => Level::DEBUG,
        _ => Level::TRACE,
    };
    if level > LevelFilter::current() {
        return;
    }
    let metadata = metadata_for(name, level);
    // `dispatch` asks no filter by itself.
    if !tracing::dispatcher::get_default(|subscriber| subscriber.enabled(metadata)) {
        return;
    }
    let fields = metadata.fields();
    if let (Some(message), Some(logger)) = (fields.field("message"), fields.field("logger")) {
        let text = format_args!("{}", record.text());
        Event::dispatch(
            metadata,
            &fields.value_set(&[
                (&message, Some(&text as &dyn Value)),
                (&logger, Some(&record.logger as &dyn Value)),
            ]),
        );
    }
}

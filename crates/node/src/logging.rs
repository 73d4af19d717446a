//! The log: on standard error, as text or as JSON, filtered by a level or by levels of parts, which
//! can be changed while the node runs.
//!
//! A filter is `info`, or a list such as `warn,landfall=debug`: names of parts are those of the
//! crates, and the most specific one counts.

use crate::config::LogFormat;
use crate::failure::Failure;
use parking_lot::Mutex;
use std::sync::Arc;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

/// Changes what is logged.
#[derive(Clone)]
pub struct LogHandle {
    /// The filter as it was written, and the place where it acts.
    inner: Arc<Mutex<(String, Setter)>>,
}

type Setter = Box<dyn Fn(Targets) -> Result<(), reload::Error> + Send>;

/// Begins to log, once in a process.
///
/// # Errors
/// If the filter cannot be read.
pub fn init(format: LogFormat, filter: &str) -> Result<LogHandle, Failure> {
    let (handle, layer) = layers(format, filter, std::io::stderr)?;
    tracing_subscriber::registry().with(layer).init();
    Ok(handle)
}

/// The log of a command that has no configuration: warnings, unless `LANDFALL_LOG_LEVEL` has a filter;
/// as text, unless `LANDFALL_LOG_FORMAT` is `json`. A node has settings of the same names.
///
/// # Errors
/// If a variable has no meaning.
pub fn init_from_environment() -> Result<LogHandle, Failure> {
    let format = std::env::var("LANDFALL_LOG_FORMAT").unwrap_or_else(|_| "text".to_owned());
    let wrong = |error: String| Failure::refused(format!("LANDFALL_LOG_FORMAT: {error}"));
    let format: LogFormat = format.parse().map_err(wrong)?;
    let filter = std::env::var("LANDFALL_LOG_LEVEL");
    init(format, filter.as_deref().unwrap_or("warn"))
}

type Boxed = Box<dyn Layer<Registry> + Send + Sync>;

fn layers<W>(format: LogFormat, filter: &str, writer: W) -> Result<(LogHandle, Boxed), Failure>
where
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let (targets, reloading) = reload::Layer::new(parse(filter).map_err(Failure::refused)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let layer: Boxed = match format {
        LogFormat::Text => lines.with_filter(targets).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_filter(targets).boxed(),
    };
    let set: Setter = Box::new(move |targets| reloading.reload(targets));
    let inner = Arc::new(Mutex::new((filter.to_owned(), set)));
    Ok((LogHandle { inner }, layer))
}

impl LogHandle {
    /// The filter as it was last set.
    pub fn filter(&self) -> String {
        self.inner.lock().0.clone()
    }

    /// Takes another filter at once; the error is for whoever asked.
    pub fn set(&self, filter: &str) -> Result<(), String> {
        let targets = parse(filter)?;
        let mut inner = self.inner.lock();
        (inner.1)(targets).map_err(|error| format!("the log cannot be changed: {error}"))?;
        filter.clone_into(&mut inner.0);
        Ok(())
    }
}

fn parse(filter: &str) -> Result<Targets, String> {
    const HELP: &str = "give a level (off, error, warn, info, debug, trace), or levels of parts \
                        such as `warn,landfall=debug`";
    if filter.is_empty() {
        return Err(format!("the filter of the log is empty; {HELP}"));
    }
    // The library takes a lone word for the name of a part, and would log all of it.
    let words = filter.split(',').filter(|part| !part.contains('='));
    for word in words {
        if word.trim().parse::<tracing_subscriber::filter::LevelFilter>().is_err() {
            return Err(format!("{word:?} is no level; {HELP}"));
        }
    }
    filter.parse().map_err(|error| format!("{filter:?} is no filter of the log: {error}; {HELP}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, run: impl FnOnce(&LogHandle)) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let (handle, layer) = layers(format, filter, move || writer.clone()).unwrap();
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || run(&handle));
        let bytes = buffer.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_filter_is_changed_while_the_process_runs() {
        let text = logged(LogFormat::Text, "warn", |handle| {
            tracing::info!("before");
            handle.set("info").unwrap();
            tracing::info!(height = 7, "after");
            assert_eq!(handle.filter(), "info");
        });
        assert!(!text.contains("before") && text.contains("after height=7"), "{text}");
    }

    #[test]
    fn json_lines_are_objects_with_the_fields_at_hand() {
        let text = logged(LogFormat::Json, "info", |_| tracing::warn!(height = 7, "slow"));
        let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!((&line["level"], &line["message"]), (&"WARN".into(), &"slow".into()));
        assert_eq!(line["height"], 7);
    }

    #[test]
    fn the_most_specific_part_of_a_filter_counts() {
        let text = logged(LogFormat::Text, "off,landfall=debug", |_| {
            tracing::debug!(target: "landfall::member", "ours");
            tracing::error!(target: "other", "theirs");
        });
        assert!(text.contains("ours") && !text.contains("theirs"), "{text}");
    }

    #[test]
    fn nonsense_is_refused_and_the_filter_before_stays() {
        logged(LogFormat::Text, "info", |handle| {
            for wrong in ["", "loud", "landfall=loud", "info,,loud"] {
                let error = handle.set(wrong).unwrap_err();
                assert!(error.contains("level"), "{wrong}: {error}");
            }
            assert_eq!(handle.filter(), "info");
        });
    }
}

//! The log: lines of text to standard error or to a file, never to standard output. A log that cannot be written must not
//! cost a pod its network, so its failures are swallowed after one attempt to say so on standard error.
//! No global: whoever logs was handed the [`Log`].

use crate::netconf::LogConf;
use std::cell::RefCell;
use std::fmt::Arguments;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// How much a line matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Error,
    #[default]
    Warn,
    Info,
    Debug,
}

/// An open log.
pub(crate) struct Log {
    level: Level,
    file: Option<RefCell<File>>,
    subject: String,
}

impl Level {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Error, Self::Warn, Self::Info, Self::Debug].into_iter().find(|level| level.name() == text)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

impl Log {
    /// Opens the log; `subject` (verb, container, interface) is on every line.
    pub(crate) fn open(conf: &LogConf, subject: String) -> Self {
        let mut log = Self { level: conf.level, file: None, subject };
        if let Some(path) = &conf.file {
            match OpenOptions::new().append(true).create(true).open(path) {
                Ok(file) => log.file = Some(RefCell::new(file)),
                Err(error) => log.warn(format_args!("logFile {} cannot be opened: {error}", path.display())),
            }
        }
        log
    }

    pub(crate) fn error(&self, text: Arguments<'_>) {
        self.line(Level::Error, text);
    }

    pub(crate) fn warn(&self, text: Arguments<'_>) {
        self.line(Level::Warn, text);
    }

    pub(crate) fn info(&self, text: Arguments<'_>) {
        self.line(Level::Info, text);
    }

    pub(crate) fn debug(&self, text: Arguments<'_>) {
        self.line(Level::Debug, text);
    }

    fn line(&self, level: Level, text: Arguments<'_>) {
        if level > self.level {
            return;
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, millis) = (now.as_secs(), now.subsec_millis());
        // One write per line: many plugins append to one file at once.
        let line = format!(
            "{seconds}.{millis:03} {} spur[{}] {}: {text}\n",
            level.name(),
            std::process::id(),
            self.subject
        );
        let _ = match &self.file {
            Some(file) => file.borrow_mut().write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_below_the_level_are_dropped_and_the_file_is_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let conf = LogConf { level: Level::Info, file: Some(path.clone()) };
        for _ in 0..2 {
            let log = Log::open(&conf, "ADD c1/eth0".to_owned());
            log.info(format_args!("granted {}", 1));
            log.debug(format_args!("hidden"));
        }
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count(), 2);
        assert!(
            text.lines()
                .all(|line| line.contains(" info spur[") && line.ends_with("] ADD c1/eth0: granted 1")),
            "{text}"
        );
    }

    #[test]
    fn levels_are_named_exactly() {
        assert_eq!(Level::parse("debug"), Some(Level::Debug));
        assert_eq!(Level::parse("Debug"), None);
        assert!(Level::Error < Level::Debug);
    }
}

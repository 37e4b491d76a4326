//! Standard input, bounded in bytes and in time: a runtime that never closes the pipe must not make a plugin that never ends.
//! Only reads; what the bytes mean is `netconf.rs`'s.
//! A closed descriptor reads as empty, because Rust's runtime opens `/dev/null` in its place before `main`.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};
use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

/// Longest network configuration that is read, in bytes.
pub(crate) const MAX_INPUT: usize = 1024 * 1024;

/// Standard input could not be read to its end.
#[derive(Debug)]
pub(crate) enum InputError {
    Io(io::Error),
    TooLong,
}

/// Everything up to the end of the stream.
pub(crate) fn read_to_end(stream: &impl AsFd, deadline: Instant) -> Result<Vec<u8>, InputError> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 8192];
    loop {
        wait_readable(stream, deadline)?;
        match read(stream, &mut chunk) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(errno) => return Err(InputError::Io(errno.into())),
        }
        if bytes.len() > MAX_INPUT {
            return Err(InputError::TooLong);
        }
    }
}

fn wait_readable(stream: &impl AsFd, deadline: Instant) -> Result<(), InputError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| InputError::Io(Errno::INVAL.into()))?;
        match poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(InputError::Io(io::ErrorKind::TimedOut.into())),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(InputError::Io(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[test]
    fn input_ends_at_the_end_of_the_pipe() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"{}").unwrap();
        drop(writer);
        assert_eq!(read_to_end(&reader, soon()).unwrap(), b"{}");
    }

    #[test]
    fn a_pipe_that_stays_open_times_out() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"{}").unwrap();
        let error = read_to_end(&reader, Instant::now() + Duration::from_millis(20)).unwrap_err();
        assert!(
            matches!(&error, InputError::Io(error) if error.kind() == io::ErrorKind::TimedOut),
            "{error:?}"
        );
    }

    #[test]
    fn endless_input_is_refused() {
        let zeroes = std::fs::File::open("/dev/zero").unwrap();
        assert!(matches!(read_to_end(&zeroes, soon()), Err(InputError::TooLong)));
    }

    #[test]
    fn a_directory_is_unreadable() {
        let directory = std::fs::File::open("/").unwrap();
        assert!(matches!(read_to_end(&directory, soon()), Err(InputError::Io(_))));
    }
}

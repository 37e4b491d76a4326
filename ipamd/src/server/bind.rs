//! Making the socket file. The file of a dead agent is replaced in one rename, so that there is no instant at which the path
//! exists with wider permissions or with nobody behind it.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use tokio::net::{UnixListener, UnixStream};

/// The socket cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The directory cannot be made or looked at.
    #[error("use the directory of the socket {}", .0.display())]
    Directory(PathBuf, #[source] io::Error),
    /// Others than root could put a socket of their own there.
    #[error("the directory of the socket {} may be written by others (mode {mode:o}); expected mode 700 or 755", path.display())]
    Writable {
        /// The socket.
        path: PathBuf,
        /// Of its directory.
        mode: u32,
    },
    /// An agent with another state directory listens there.
    #[error("another process answers on {}; stop it, or configure another socket", .0.display())]
    Busy(PathBuf),
    /// There is something that is no socket.
    #[error("{} exists and is no socket; remove it, or configure another socket", .0.display())]
    NoSocket(PathBuf),
    /// The kernel refuses.
    #[error("listen on {}", .0.display())]
    Listen(PathBuf, #[source] io::Error),
}

/// A listening socket; dropping it closes it and removes its file.
#[derive(Debug)]
pub struct BoundSocket {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl BoundSocket {
    /// The next connection.
    ///
    /// # Errors
    /// When the kernel refuses (file descriptors).
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        // Only our own file: whoever replaced it is in charge now.
        if fs::metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode) {
            // A file that stays behind is replaced by the next agent.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens on `path`; its directory is made with mode 0700 if it is not there. Needs a tokio runtime.
///
/// # Errors
/// When somebody else is there, or the file system refuses.
pub fn bind(path: &Path) -> Result<BoundSocket, BindError> {
    let dir = path.parent().unwrap_or_else(|| Path::new("/"));
    let in_dir = |cause| BindError::Directory(path.to_owned(), cause);
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(in_dir)?;
    let mode = fs::metadata(dir).map_err(in_dir)?.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(BindError::Writable { path: path.to_owned(), mode });
    }
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(BindError::NoSocket(path.to_owned()));
        }
        Ok(_) if StdStream::connect(path).is_ok() => return Err(BindError::Busy(path.to_owned())),
        // A socket without a listener is a dead agent's; no file at all is the usual case.
        Ok(_) | Err(_) => {}
    }
    listen(path, dir).map_err(|cause| BindError::Listen(path.to_owned(), cause))
}

fn listen(path: &Path, dir: &Path) -> io::Result<BoundSocket> {
    // A short name, because the path of a socket is limited and the configured one may use all of it.
    let temporary = dir.join(format!(".{}", std::process::id() % 1_000_000));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdListener::bind(&temporary)?;
    let placed = (|| {
        fs::set_permissions(&temporary, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let inode = fs::metadata(&temporary)?.ino();
        let listener = UnixListener::from_std(listener)?;
        fs::rename(&temporary, path)?;
        Ok(BoundSocket { listener, path: path.to_owned(), inode })
    })();
    if placed.is_err() {
        // The error above is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    placed
}

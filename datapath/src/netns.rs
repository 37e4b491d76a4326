//! Network namespaces: open one by path, make a named one, run a closure inside one.
//!
//! [`NetNs::run`] enters on a thread made for it, which ends with the closure: the calling thread never changes its namespace, on
//! no path. [`NetNs::visit`] is for a process that makes no threads, the plugin: it enters on the calling thread and is back before it
//! returns, on every path. Named namespaces are bind mounts under `/run/netns`, as `ip netns` makes them.

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::ioctl::{self, Ioctl, IoctlOutput, Opcode};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::ffi::c_void;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where named namespaces are.
pub const NETNS_DIR: &str = "/run/netns";

/// The calling thread's namespace: `/proc/self` would be that of the process's first thread.
const OWN_NETNS: &str = "/proc/thread-self/ns/net";

/// An open network namespace; it lives at least as long as this value.
#[derive(Debug)]
pub struct NetNs {
    fd: OwnedFd,
    path: PathBuf,
}

/// Identity of a namespace: the same for every path that leads to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NsId {
    device: u64,
    inode: u64,
}

/// A namespace could not be used.
#[derive(Debug, thiserror::Error)]
pub enum NsError {
    /// The file could not be opened.
    #[error("open network namespace {}", .path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The file is there, but it is no network namespace.
    #[error("{} is no network namespace", .path.display())]
    NotANamespace {
        /// Which.
        path: PathBuf,
    },
    /// A thread could not be moved into the namespace.
    #[error("enter network namespace {}", .path.display())]
    Enter {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A named namespace could not be made.
    #[error("make network namespace {}", .path.display())]
    Create {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A named namespace could not be removed.
    #[error("remove network namespace {}", .path.display())]
    Delete {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

impl NsError {
    /// True when the namespace does not exist (any more).
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Open { cause, .. } => {
                matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
            }
            // What stays of a namespace's bind mount after the unmount: an empty file.
            Self::NotANamespace { .. } => true,
            _ => false,
        }
    }
}

impl NetNs {
    /// Opens the namespace at a path, such as `/run/netns/x` or `/proc/7/ns/net`.
    ///
    /// # Errors
    /// When there is no such file or it is no network namespace.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, NsError> {
        let path = path.as_ref().to_owned();
        let fd = rustix::fs::openat(
            CWD,
            &path,
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
            Mode::empty(),
        )
        .map_err(|errno| NsError::Open { path: path.clone(), cause: errno.into() })?;
        let nsfs = rustix::fs::fstatfs(&fd).is_ok_and(|fs| fs.f_type == NSFS_MAGIC);
        if !nsfs || !is_network(&fd) {
            return Err(NsError::NotANamespace { path });
        }
        Ok(Self { fd, path })
    }

    /// Opens the namespace of that name under [`NETNS_DIR`].
    ///
    /// # Errors
    /// As [`NetNs::open`].
    pub fn open_named(name: &str) -> Result<Self, NsError> {
        Self::open(Path::new(NETNS_DIR).join(name))
    }

    /// The calling thread's namespace.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn current() -> Result<Self, NsError> {
        Self::open(OWN_NETNS)
    }

    /// Makes a namespace with a name, as `ip netns add` does; its loopback is down.
    ///
    /// # Errors
    /// When the name is taken (`AlreadyExists`) or privileges are missing.
    pub fn create_pinned(name: &str) -> Result<Self, NsError> {
        let path = Path::new(NETNS_DIR).join(name);
        let failed = |cause: io::Error| NsError::Create { path: path.clone(), cause };
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(failed(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the name must be a plain file name",
            )));
        }
        share_netns_dir().map_err(failed)?;
        std::fs::OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
        let pinned = on_thread(|| {
            unshare_network()?;
            Ok(rustix::mount::mount_bind(OWN_NETNS, &path)?)
        });
        match pinned {
            Ok(Ok(())) => Self::open(&path),
            Ok(Err(cause)) | Err(cause) => {
                // The file is ours: create_new() succeeded. Its removal is best effort, the first error counts.
                let _ = std::fs::remove_file(&path);
                Err(failed(cause))
            }
        }
    }

    /// Unmounts and removes a named namespace; `false` when there is none. It lives on while somebody holds it.
    ///
    /// # Errors
    /// When it cannot be unmounted.
    pub fn delete_pinned(name: &str) -> Result<bool, NsError> {
        let path = Path::new(NETNS_DIR).join(name);
        let failed = |cause: io::Error| NsError::Delete { path: path.clone(), cause };
        match rustix::mount::unmount(&path, UnmountFlags::DETACH) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(rustix::io::Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(failed(errno.into())),
        }
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(cause) => Err(failed(cause)),
        }
    }

    /// The path by which it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its identity.
    ///
    /// # Errors
    /// When the descriptor cannot be examined.
    pub fn id(&self) -> Result<NsId, NsError> {
        let stat = rustix::fs::fstat(&self.fd)
            .map_err(|errno| NsError::Open { path: self.path.clone(), cause: errno.into() })?;
        Ok(NsId { device: stat.st_dev, inode: stat.st_ino })
    }

    /// True when both are the same namespace.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        matches!((self.id(), other.id()), (Ok(a), Ok(b)) if a == b)
    }

    /// Runs the closure inside the namespace, on a thread that ends with it.
    ///
    /// # Errors
    /// When the thread cannot be made or cannot enter. A panic of the closure goes on in the caller.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> Result<T, NsError> {
        let entered = on_thread(|| self.enter().map(|()| inside()));
        entered.and_then(|inner| inner).map_err(|cause| self.enter_failed(cause))
    }

    /// Runs the closure inside the namespace on the calling thread, which then goes back to `home`, its own namespace. A thread of
    /// its own ([`NetNs::run`]) costs 0.1 ms or more: its stack, its heap, two switches. That is a good part of what wiring a pod takes.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    ///
    /// # Panics
    /// When the kernel does not let the thread back: nothing may go on in a namespace that its code does not expect.
    pub fn visit<T>(&self, home: &Self, inside: impl FnOnce() -> T) -> Result<T, NsError> {
        self.enter().map_err(|cause| self.enter_failed(cause))?;
        let _way_back = WayBack(home);
        Ok(inside())
    }

    fn enter(&self) -> io::Result<()> {
        Ok(rustix::thread::move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    fn enter_failed(&self, cause: io::Error) -> NsError {
        NsError::Enter { path: self.path.clone(), cause }
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Brings the thread home when it goes out of scope, after a panic, too.
struct WayBack<'a>(&'a NetNs);

impl Drop for WayBack<'_> {
    fn drop(&mut self) {
        if let Err(cause) = self.0.enter() {
            panic!("cannot go back to network namespace {}: {cause}", self.0.path.display());
        }
    }
}

/// `NS_GET_NSTYPE` of linux/nsfs.h: answers with the `CLONE_NEW…` flag of the namespace's kind.
struct KindOfNamespace;

// SAFETY: the request takes no argument (as_ptr() is null) and writes nothing; its answer is the return value.
#[expect(unsafe_code, reason = "rustix leaves the meaning of an ioctl to its caller")]
unsafe impl Ioctl for KindOfNamespace {
    type Output = i32;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        ioctl::opcode::none(0xb7, 3)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    unsafe fn output_from_ptr(answer: IoctlOutput, _: *mut c_void) -> rustix::io::Result<i32> {
        Ok(answer)
    }
}

/// Of a file in nsfs: whether it is a *network* namespace, not another kind.
fn is_network(fd: &OwnedFd) -> bool {
    // SAFETY: the file is in nsfs, whose ioctls these are.
    #[expect(unsafe_code, reason = "an ioctl means something else on another kind of file")]
    let kind = unsafe { ioctl::ioctl(fd, KindOfNamespace) };
    kind.is_ok_and(|kind| kind.cast_unsigned() == UnshareFlags::NEWNET.bits())
}

/// `NSFS_MAGIC` of linux/magic.h.
const NSFS_MAGIC: i64 = 0x6e73_6673;

fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, work)?;
        thread.join().map_or_else(|panic| std::panic::resume_unwind(panic), Ok)
    })
}

fn unshare_network() -> io::Result<()> {
    // SAFETY: unsharing is unsafe for FILES only (descriptors of another thread become invalid); NEWNET touches no
    // descriptors, and the thread was made for this and ends here.
    #[expect(unsafe_code, reason = "rustix has no safe unshare() for a single flag")]
    let done = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) };
    Ok(done?)
}

/// Makes [`NETNS_DIR`] a shared mount, as `ip netns add` does: otherwise a process with its own mount namespace would
/// keep a namespace alive that was removed here.
fn share_netns_dir() -> io::Result<()> {
    std::fs::create_dir_all(NETNS_DIR)?;
    // Two processes that find no mount point must not both make one: the second would cover the first. `ip netns` takes the
    // same lock, which ends with the descriptor.
    let directory = std::fs::File::open(NETNS_DIR)?;
    rustix::fs::flock(&directory, FlockOperation::LockExclusive)?;
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    match rustix::mount::mount_change(NETNS_DIR, shared) {
        Ok(()) => return Ok(()),
        // Not a mount point yet.
        Err(rustix::io::Errno::INVAL) => {}
        Err(errno) => return Err(errno.into()),
    }
    rustix::mount::mount(NETNS_DIR, NETNS_DIR, c"none", MountFlags::BIND | MountFlags::REC, None)?;
    Ok(rustix::mount::mount_change(NETNS_DIR, shared)?)
}

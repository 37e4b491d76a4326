//! The store: who holds which address, what cools down, which cloud calls are under way. One file, `agent.redb`, in the state
//! directory; a commit is durable when it returns.
//!
//! # Rules
//! - One agent per state directory: a lock file is held for the life of the [`Store`], and a second agent is refused.
//! - A file that is torn, corrupted or of a newer schema is set aside under another name, never deleted and never written to,
//!   and an empty store takes its place; [`Origin::SetAside`] says so, and the caller rebuilds from kernel and cloud. If that is not
//!   finished (the disk is full, the agent is killed), the next start says so again: a store that is missing beside one that was
//!   set aside is not a new node's.
//! - A file system that refuses is an error, not a corruption: nothing is set aside then.
//! - redb panics on some damage. That is caught, here and while committing: it costs the database handle, and no more.
//! - This file stores bytes under text keys and knows no policy; [`books`] gives them types.

mod aside;
pub mod books;
pub mod shown;
mod writer;

#[cfg(test)]
pub(crate) use writer::spawn_forgetful_writer;
pub use writer::{StoreHandle, WriteError, spawn_writer};

use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Raised when an older agent would misread what this one writes.
pub const SCHEMA: u32 = 1;

const FILE: &str = "agent.redb";
const LOCK: &str = "lock";
/// The store is small (a row per pod); redb's own default would let its cache grow to a gigabyte.
const CACHE_BYTES: usize = 512 << 10;
const SCHEMA_KEY: &str = "schema";

/// The tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Schema, boot id, instance, ordinals of ENIs.
    Meta,
    /// Who holds which address.
    Assignments,
    /// Which address rests until when.
    Cooldowns,
    /// ENIs under held addresses.
    Enis,
    /// Changes of the cloud that were begun.
    Intents,
    /// Limits by instance type.
    Limits,
    /// The controller's: whose each block is.
    Blocks,
    /// The controller's: tables that may carry our routes.
    RouteTables,
    /// The controller's: nodes that went to the fallback pool.
    Fallbacks,
}

impl Table {
    const ALL: [Self; 9] = [
        Self::Meta,
        Self::Assignments,
        Self::Cooldowns,
        Self::Enis,
        Self::Intents,
        Self::Limits,
        Self::Blocks,
        Self::RouteTables,
        Self::Fallbacks,
    ];

    const fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(match self {
            Self::Meta => "meta",
            Self::Assignments => "assignments",
            Self::Cooldowns => "cooldowns",
            Self::Enis => "enis",
            Self::Intents => "intents",
            Self::Limits => "limits",
            Self::Blocks => "blocks",
            Self::RouteTables => "route_tables",
            Self::Fallbacks => "fallbacks",
        })
    }
}

/// One row to put, or to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// In which table.
    pub table: Table,
    /// Under which key.
    pub key: String,
    /// What; none removes the row, which may be absent already.
    pub value: Option<Vec<u8>>,
}

/// Everything that is stored.
pub type Rows = BTreeMap<(Table, String), Vec<u8>>;

/// Where the contents of an opened store come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// There was none.
    Fresh,
    /// The agent before this one left it.
    Restored,
    /// It could not be used; an empty one took its place.
    SetAside {
        /// Where the unusable file is now.
        kept: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// The store cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state directory cannot be made or used.
    #[error("use the state directory {}", .0.display())]
    Directory(PathBuf, #[source] io::Error),
    /// Another agent runs.
    #[error("another agent uses the state directory {}: its lock file is held", .0.display())]
    Held(PathBuf),
    /// An unusable file cannot be moved out of the way.
    #[error("set the unusable store {} aside", .0.display())]
    SetAside(PathBuf, #[source] io::Error),
    /// The file cannot be opened, for a reason that is not its contents.
    #[error("open the store {}", .0.display())]
    Open(PathBuf, #[source] Box<redb::Error>),
    /// A commit failed; nothing of it is stored.
    #[error("commit to the store")]
    Commit(#[source] Box<redb::Error>),
}

/// A store file cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum PeekError {
    /// The file cannot be read.
    #[error("read the store {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// Its contents cannot be used.
    #[error("the store {} is unusable: {}", .0.display(), .1)]
    Unusable(PathBuf, String),
}

/// An open store.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// None after a commit failed: redb wants to be opened anew then, and finds the last good commit by itself.
    database: Option<Database>,
    _lock: File,
}

impl Store {
    /// Opens the store in `dir`, which is created if need be, and reads all of it. Contents that `decode` does not understand are
    /// as unusable as a torn file.
    ///
    /// # Errors
    /// When another agent holds it, or the file system refuses. Bad contents are no error, see [`Origin`].
    pub fn open<T>(
        dir: &Path,
        decode: impl Fn(&Rows) -> Result<T, String>,
    ) -> Result<(Self, T, Origin), StoreError> {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        created.map_err(|cause| StoreError::Directory(dir.to_owned(), cause))?;
        let lock = take_lock(dir)?;
        let path = store_file(dir);
        let found = match look(&path) {
            None => {
                let (database, contents) = create(&path, &decode)?;
                return Ok((Self { path, database: Some(database), _lock: lock }, contents, unfinished(dir)));
            }
            Some(Ok(())) => open_checked(&path, &decode),
            Some(Err(unusable)) => Err(unusable),
        };
        let (database, contents, origin) = match found {
            Ok((database, contents)) => (database, contents, Origin::Restored),
            Err(Unusable::Contents(why)) => {
                let kept =
                    aside::set_aside(&path).map_err(|cause| StoreError::SetAside(path.clone(), cause))?;
                let (database, contents) = create(&path, &decode)?;
                (database, contents, Origin::SetAside { kept, why })
            }
            Err(error) => return Err(error.of(&path)),
        };
        Ok((Self { path, database: Some(database), _lock: lock }, contents, origin))
    }

    /// Writes all of `writes`, or nothing. They are durable when this returns. After a failure (a full disk) the next
    /// commit opens the file anew.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let (path, database) = (&self.path, self.database.take());
        // What redb may have left half done is dropped with the handle, which is not used again.
        let committed = catch_unwind(AssertUnwindSafe(move || -> Result<Database, redb::Error> {
            let database = database.map_or_else(|| open_database(path), Ok)?;
            write_all(&database, writes)?;
            Ok(database)
        }));
        let gave_up = || redb::Error::Corrupted("the store's library gave up on the file".to_owned());
        let result = committed.unwrap_or_else(|_| Err(gave_up()));
        self.database = Some(result.map_err(|error| StoreError::Commit(Box::new(error)))?);
        Ok(())
    }
}

/// What is in the store's place, before it is opened; none if nothing is.
fn look(path: &Path) -> Option<Result<(), Unusable>> {
    match fs::metadata(path) {
        // redb would take it for a new one, but the agent before this one had a store here, or began to make one.
        Ok(metadata) if metadata.len() == 0 => Some(Err(Unusable::Contents("it is empty".to_owned()))),
        Ok(_) => Some(Ok(())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(Err(Unusable::File(Box::new(redb::Error::Io(error))))),
    }
}

/// A new store in a place where there is none. If it cannot be finished, it goes: it holds nothing, and the next start must not
/// take it for one that was damaged.
fn create<T>(path: &Path, decode: impl Fn(&Rows) -> Result<T, String>) -> Result<(Database, T), StoreError> {
    open_checked(path, decode).map_err(|error| {
        // Should this fail, too, one more file is set aside.
        let _ = fs::remove_file(path);
        error.of(path)
    })
}

/// Where the contents of a store that is not there come from.
fn unfinished(dir: &Path) -> Origin {
    match aside::newest(dir) {
        Some(kept) => {
            let why = "an agent set it aside, and made no other".to_owned();
            Origin::SetAside { kept, why }
        }
        None => Origin::Fresh,
    }
}

fn open_database(path: &Path) -> Result<Database, redb::DatabaseError> {
    Database::builder().set_cache_size(CACHE_BYTES).create(path)
}

/// Where the store of a state directory is.
#[must_use]
pub fn store_file(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

fn take_lock(dir: &Path) -> Result<File, StoreError> {
    let fail = |cause| StoreError::Directory(dir.to_owned(), cause);
    let mut options = OpenOptions::new();
    let lock =
        options.write(true).create(true).truncate(false).mode(0o600).open(dir.join(LOCK)).map_err(fail)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::Held(dir.to_owned())),
        Err(TryLockError::Error(cause)) => Err(fail(cause)),
    }
}

/// Why a store file cannot be used.
enum Unusable {
    /// The file system refuses; the contents may be fine.
    File(Box<redb::Error>),
    /// The contents make no sense.
    Contents(String),
}

impl Unusable {
    fn of(self, path: &Path) -> StoreError {
        match self {
            Self::File(error) => StoreError::Open(path.to_owned(), error),
            Self::Contents(why) => StoreError::Open(path.to_owned(), Box::new(redb::Error::Corrupted(why))),
        }
    }
}

/// Reads a store file without touching it: the agent's own while it runs, or one that was set aside. Of a file that
/// is being written this sees the last commit, as the next agent would.
///
/// # Errors
/// When the file cannot be read, or is not a store that this agent would use.
pub fn peek<T>(path: &Path, decode: impl Fn(&Rows) -> Result<T, String>) -> Result<T, PeekError> {
    let bytes = fs::read(path).map_err(|cause| PeekError::Read(path.to_owned(), cause))?;
    read_copy(&bytes, decode).map_err(|why| PeekError::Unusable(path.to_owned(), why))
}

/// Reads a store from its bytes; all that redb repairs, it repairs in memory.
fn read_copy<T>(bytes: &[u8], decode: impl Fn(&Rows) -> Result<T, String>) -> Result<T, String> {
    let copy = InMemoryBackend::new();
    let copied = copy.set_len(bytes.len() as u64).and_then(|()| copy.write(0, bytes));
    copied.map_err(|error| error.to_string())?;
    let open = || Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(copy);
    match examine(open, decode) {
        Ok((_, contents)) => Ok(contents),
        Err(Unusable::Contents(why)) => Err(why),
        Err(Unusable::File(error)) => Err(error.to_string()),
    }
}

/// Opens and reads everything once. redb checks a database that was not closed well by itself; a bit that flipped later is found
/// only by its integrity check, and some damage only by a panic of its decoder, which is caught here, where nothing is shared
/// with it yet.
fn open_checked<T>(
    path: &Path,
    decode: impl Fn(&Rows) -> Result<T, String>,
) -> Result<(Database, T), Unusable> {
    examine(|| open_database(path), decode)
}

fn examine<T>(
    open: impl FnOnce() -> Result<Database, redb::DatabaseError>,
    decode: impl Fn(&Rows) -> Result<T, String>,
) -> Result<(Database, T), Unusable> {
    let attempt = catch_unwind(AssertUnwindSafe(|| {
        let mut database = open().map_err(|error| judge(error.into()))?;
        match database.check_integrity().map_err(|error| judge(error.into()))? {
            true => {}
            false => return Err(Unusable::Contents("its checksums do not match".to_owned())),
        }
        let mut rows = read_all(&database).map_err(judge)?;
        match rows.remove(&(Table::Meta, SCHEMA_KEY.to_owned())) {
            None if rows.is_empty() => {
                let schema = SCHEMA.to_string().into_bytes();
                let write = Write { table: Table::Meta, key: SCHEMA_KEY.to_owned(), value: Some(schema) };
                write_all(&database, &[write]).map_err(judge)?;
            }
            Some(schema) if schema == SCHEMA.to_string().into_bytes() => {}
            other => return Err(Unusable::Contents(foreign_schema(other))),
        }
        let contents = decode(&rows).map_err(Unusable::Contents)?;
        Ok((database, contents))
    }));
    attempt.unwrap_or_else(|_| Err(Unusable::Contents("its decoder gave up on it".to_owned())))
}

fn foreign_schema(found: Option<Vec<u8>>) -> String {
    let found = found.map_or_else(|| "none".to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned());
    format!("its schema is {found:.20}, and this agent reads {SCHEMA}")
}

fn judge(error: redb::Error) -> Unusable {
    use redb::Error as E;
    // A file that is too short, or not redb's at all, comes back as one of these two kinds of I/O error.
    let damaged = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::InvalidData
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::IsADirectory
        )
    };
    match error {
        E::Io(cause) if !damaged(&cause) => Unusable::File(Box::new(E::Io(cause))),
        E::DatabaseAlreadyOpen => Unusable::File(Box::new(E::DatabaseAlreadyOpen)),
        other => Unusable::Contents(other.to_string()),
    }
}

fn read_all(database: &Database) -> Result<Rows, redb::Error> {
    let transaction = database.begin_read()?;
    let mut rows = Rows::new();
    for table in Table::ALL {
        match transaction.open_table(table.definition()) {
            Ok(open) => {
                for row in open.iter()? {
                    let (key, value) = row?;
                    rows.insert((table, key.value().to_owned()), value.value().to_owned());
                }
            }
            Err(redb::TableError::TableDoesNotExist(_)) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Ok(rows)
}

fn write_all(database: &Database, writes: &[Write]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for table in Table::ALL {
        let mut open = transaction.open_table(table.definition())?;
        for write in writes.iter().filter(|write| write.table == table) {
            match &write.value {
                Some(value) => drop(open.insert(write.key.as_str(), value.as_slice())?),
                None => drop(open.remove(write.key.as_str())?),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests;

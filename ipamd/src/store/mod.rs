//! The store: who holds which address, what cools down, which cloud calls are under way. One file, `agent.redb`, in the state
//! directory; a commit is durable when it returns.
//!
//! # Rules
//! - One agent per state directory: a lock file is held for the life of the [`Store`], and a second agent is refused.
//! - A file that is torn, corrupted or of a newer schema is set aside under another name, never deleted and never written to,
//!   and an empty store takes its place; [`Origin::SetAside`] says so, and the caller rebuilds from kernel and cloud.
//! - A file system that refuses is an error, not a corruption: nothing is set aside then.
//! - This file stores bytes under text keys and knows no policy; [`books`] gives them types.

pub mod books;
mod writer;

#[cfg(test)]
pub(crate) use writer::spawn_forgetful_writer;
pub use writer::{StoreHandle, WriteError, spawn_writer};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Raised when an older agent would misread what this one writes.
pub const SCHEMA: u32 = 1;

const FILE: &str = "agent.redb";
const LOCK: &str = "lock";
/// Stores that were set aside are kept for a person to look at, but not so many that they fill the disk.
const ASIDE_KEPT: usize = 4;
/// The store is small (a row per pod); redb's own default would let its cache grow to a gigabyte.
const CACHE_BYTES: usize = 2 << 20;
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
}

impl Table {
    const ALL: [Self; 6] =
        [Self::Meta, Self::Assignments, Self::Cooldowns, Self::Enis, Self::Intents, Self::Limits];

    const fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(match self {
            Self::Meta => "meta",
            Self::Assignments => "assignments",
            Self::Cooldowns => "cooldowns",
            Self::Enis => "enis",
            Self::Intents => "intents",
            Self::Limits => "limits",
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
        let path = dir.join(FILE);
        let existed = fs::metadata(&path).is_ok_and(|metadata| metadata.len() > 0);
        let (database, contents, origin) = match open_checked(&path, &decode) {
            Ok((database, contents)) => {
                (database, contents, if existed { Origin::Restored } else { Origin::Fresh })
            }
            Err(Unusable::File(error)) => return Err(StoreError::Open(path, error)),
            Err(Unusable::Contents(why)) => {
                let kept = set_aside(&path).map_err(|cause| StoreError::SetAside(path.clone(), cause))?;
                let (database, contents) = open_checked(&path, &decode).map_err(|error| error.of(&path))?;
                (database, contents, Origin::SetAside { kept, why })
            }
        };
        Ok((Self { path, database: Some(database), _lock: lock }, contents, origin))
    }

    /// Writes all of `writes`, or nothing. They are durable when this returns. After a failure (a full disk) the next
    /// commit opens the file anew.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let failed = |error: redb::Error| StoreError::Commit(Box::new(error));
        let database = match self.database.take() {
            Some(database) => database,
            None => open_database(&self.path).map_err(|error| failed(error.into()))?,
        };
        write_all(&database, writes).map_err(failed)?;
        self.database = Some(database);
        Ok(())
    }
}

fn open_database(path: &Path) -> Result<Database, redb::DatabaseError> {
    Database::builder().set_cache_size(CACHE_BYTES).create(path)
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

/// Opens and reads everything once. redb checks a database that was not closed well by itself; a bit that flipped later is found
/// only by its integrity check, and some damage only by a panic of its decoder, which is caught here, where nothing is shared
/// with it yet.
fn open_checked<T>(
    path: &Path,
    decode: impl Fn(&Rows) -> Result<T, String>,
) -> Result<(Database, T), Unusable> {
    let attempt = catch_unwind(AssertUnwindSafe(|| {
        let mut database = Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create(path)
            .map_err(|error| judge(error.into()))?;
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
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput
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

/// Moves the file to a name of its own, and removes the oldest of its predecessors.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let kept = path.with_extension(format!("redb.unusable-{millis:016}"));
    fs::rename(path, &kept)?;
    let dir = path.parent().unwrap_or_else(|| Path::new("/"));
    let mut older: Vec<PathBuf> = fs::read_dir(dir)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().contains(".redb.unusable-"))
        })
        .collect();
    older.sort();
    for old in older.iter().rev().skip(ASIDE_KEPT) {
        // Tidying only; the next time tries again.
        let _ = fs::remove_file(old);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests;

//! Damage of every kind. The agent must open whatever it finds: as it was, or an earlier commit of it (redb falls back to the one before when the last
//! is torn), or set aside. Never a panic that gets out, never rows that nobody wrote, never a wait without end.
//!
//! A few cases go through files, as the agent does it; thousands go through memory.

use super::*;
use std::time::{Duration, Instant};

/// Numbers that look random and are the same in every run.
fn random(seed: &mut u64) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    usize::try_from(*seed >> 16).unwrap()
}

/// Opens a damaged copy: it must be as it was, or an earlier commit of it (redb falls back to the commit before when the last one
/// is torn), or set aside; never a panic, never rows that nobody wrote.
fn open_damaged(bytes: &[u8], whole: &Rows, what: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE), bytes).unwrap();
    let started = Instant::now();
    let (mut store, rows, origin) = open(dir.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(started.elapsed().as_secs() < 20, "{what}: took {:?}", started.elapsed());
    for (key, value) in &rows {
        assert_eq!(whole.get(key), Some(value), "{what}: a row that nobody wrote");
    }
    store.commit(&[put(Table::Assignments, "new", "row")]).unwrap_or_else(|error| panic!("{what}: {error}"));
    drop(store);
    let (_store, after, again) = open(dir.path()).unwrap();
    assert_eq!(
        (after.len(), again),
        (rows.len() + 1, Origin::Restored),
        "{what}: does not keep what it is given"
    );
    matches!(origin, Origin::SetAside { .. })
}

#[test]
fn a_store_that_was_cut_short_never_stops_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let rows = filled(dir.path());
    let bytes = fs::read(dir.path().join(FILE)).unwrap();
    let mut seed = 11;
    let mut set_aside = 0;
    for _ in 0..60 {
        let length = random(&mut seed) % bytes.len();
        set_aside += u32::from(open_damaged(&bytes[..length], &rows, &format!("cut to {length}")));
    }
    for length in [1, 8, 9, 63, 64, 320, 4095, 4096, 4097] {
        set_aside += u32::from(open_damaged(&bytes[..length], &rows, &format!("cut to {length}")));
    }
    assert!(set_aside > 0);
}

#[test]
fn a_store_with_flipped_bits_never_stops_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let rows = filled(dir.path());
    let bytes = fs::read(dir.path().join(FILE)).unwrap();
    let mut seed = 12;
    let mut set_aside = 0;
    for round in 0..160 {
        let mut damaged = bytes.clone();
        // Half of the rounds hit the header, where a flip does the most harm.
        let span = if round % 2 == 0 { 512 } else { damaged.len() };
        let (at, bit) = (random(&mut seed) % span, random(&mut seed) % 8);
        damaged[at] ^= 1 << bit;
        set_aside += u32::from(open_damaged(&damaged, &rows, &format!("bit {bit} of byte {at} flipped")));
    }
    assert!(set_aside > 0);
}

#[test]
fn a_store_full_of_garbage_or_torn_pages_never_stops_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let rows = filled(dir.path());
    let bytes = fs::read(dir.path().join(FILE)).unwrap();
    let mut seed = 13;
    for text in ["x", "not a database at all", "redb"] {
        assert!(open_damaged(text.repeat(5000).as_bytes(), &rows, text));
    }
    for _ in 0..40 {
        let mut damaged = bytes.clone();
        let page = random(&mut seed) % (damaged.len() / 4096) * 4096;
        damaged[page..page + 4096].fill(0);
        open_damaged(&damaged, &rows, &format!("page at {page} torn"));
    }
}

/// How long one look may take: thousands of them are made here, and one is made at every start.
const PATIENCE: Duration = Duration::from_secs(20);

/// Reads damaged bytes as `open` does, in memory. Tells whether they are of use.
fn look(bytes: &[u8], whole: &Rows, what: &str) -> bool {
    let started = Instant::now();
    let read = read_copy(bytes, |rows| Ok(rows.clone()));
    assert!(started.elapsed() < PATIENCE, "{what}: took {:?}", started.elapsed());
    match read {
        Ok(rows) => {
            let strange = rows.iter().find(|(key, value)| whole.get(*key) != Some(*value));
            assert_eq!(strange, None, "{what}: a row that nobody wrote");
            true
        }
        Err(why) => {
            assert!(!why.is_empty(), "{what}: no word about it");
            false
        }
    }
}

fn sample() -> (Rows, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let rows = filled(dir.path());
    (rows, fs::read(dir.path().join(FILE)).unwrap())
}

#[test]
fn every_bit_of_the_header_may_flip() {
    let (rows, bytes) = sample();
    let mut usable = 0;
    for at in 0..320 {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            usable += usize::from(look(&damaged, &rows, &format!("bit {bit} of byte {at}")));
        }
    }
    assert!(usable > 0 && usable < 320 * 8, "{usable} of {} were usable", 320 * 8);
}

#[test]
fn any_byte_may_be_any_other() {
    let (rows, bytes) = sample();
    let (mut seed, used) = (17, bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    for _ in 0..rounds(1500) {
        let mut damaged = bytes.clone();
        let (at, value) = (random(&mut seed) % used, random(&mut seed));
        damaged[at] = value.to_le_bytes()[0];
        look(&damaged, &rows, &format!("byte {at} became {}", damaged[at]));
    }
}

#[test]
fn many_bytes_may_change_at_once() {
    let (rows, bytes) = sample();
    let mut seed = 18;
    for round in 0..rounds(600) {
        let mut damaged = bytes.clone();
        let span = [320, 8192, damaged.len()][round % 3];
        for _ in 0..2 + random(&mut seed) % 30 {
            let at = random(&mut seed) % span;
            damaged[at] = random(&mut seed).to_le_bytes()[0];
        }
        look(&damaged, &rows, &format!("round {round}, within {span}"));
    }
}

#[test]
fn a_store_may_end_anywhere() {
    let (rows, bytes) = sample();
    let step = (bytes.len() / rounds(800)).max(1);
    for length in (1..600).chain((600..bytes.len()).step_by(step)) {
        look(&bytes[..length], &rows, &format!("cut to {length}"));
    }
    // Longer than it says it is.
    let mut longer = bytes.clone();
    longer.resize(bytes.len() + 12_345, 0x5a);
    look(&longer, &rows, "longer");
}

#[test]
fn a_newer_format_of_the_file_is_set_aside_with_a_clear_word() {
    let (_, mut bytes) = sample();
    // redb's magic is nine bytes long; after flags and page sizes each of the two commits names the format's version.
    for at in [64, 192] {
        bytes[at] = 200;
    }
    let why = read_copy(&bytes, |rows| Ok(rows.clone())).unwrap_err();
    assert!(why.contains("version") || why.contains("format") || why.contains("corrupt"), "{why}");
}

/// So many rounds, or `STORE_DAMAGE_ROUNDS` for a long run.
fn rounds(usual: usize) -> usize {
    std::env::var("STORE_DAMAGE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

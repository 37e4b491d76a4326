//! Tests of the store: round trips, one agent only, damage of every kind, batching.

use super::*;

mod damage;

fn open(dir: &Path) -> Result<(Store, Rows, Origin), StoreError> {
    Store::open(dir, |rows| Ok(rows.clone()))
}

fn put(table: Table, key: &str, value: &str) -> Write {
    Write { table, key: key.to_owned(), value: Some(value.as_bytes().to_vec()) }
}

fn filled(dir: &Path) -> Rows {
    let (mut store, _, _) = open(dir).unwrap();
    for number in 0..40 {
        store
            .commit(&[
                put(
                    Table::Assignments,
                    &format!("pod-{number}"),
                    &format!("10.0.0.{number} {}", "x".repeat(200)),
                ),
                put(Table::Cooldowns, &format!("10.0.1.{number}"), "1"),
            ])
            .unwrap();
    }
    drop(store);
    open(dir).unwrap().1
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, rows, origin) = open(dir.path()).unwrap();
    assert_eq!((rows.len(), origin), (0, Origin::Fresh));
    store
        .commit(&[
            put(Table::Meta, "boot", "b"),
            put(Table::Intents, "1", "c"),
            put(Table::Limits, "m5", "l"),
        ])
        .unwrap();
    store
        .commit(&[
            put(Table::Meta, "boot", "d"),
            Write { table: Table::Intents, key: "1".into(), value: None },
        ])
        .unwrap();
    store.commit(&[Write { table: Table::Intents, key: "never".into(), value: None }]).unwrap();
    drop(store);
    let (_store, rows, origin) = open(dir.path()).unwrap();
    assert_eq!(origin, Origin::Restored);
    let expected = [((Table::Meta, "boot"), "d"), ((Table::Limits, "m5"), "l")];
    assert_eq!(
        rows,
        expected.into_iter().map(|((t, k), v)| ((t, k.to_owned()), v.as_bytes().to_vec())).collect()
    );
}

#[test]
fn a_second_agent_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _, _) = open(dir.path()).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::Held(_)), "{error}");
    assert!(error.to_string().contains("another agent uses the state directory"), "{error}");
    drop(store);
    assert!(open(dir.path()).is_ok());
}

#[test]
fn a_directory_that_cannot_be_used_is_an_error_and_nothing_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    assert!(matches!(open(&dir.path().join("file/state")), Err(StoreError::Directory(..))));
}

#[test]
fn a_directory_in_the_stores_place_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(FILE)).unwrap();
    fs::write(dir.path().join(FILE).join("notes"), "somebody's").unwrap();
    let (store, _, origin) = open(dir.path()).unwrap();
    let Origin::SetAside { kept, why } = origin else { panic!("{origin:?}") };
    assert!(kept.join("notes").exists() && why.contains("directory"), "{why}");
    drop(store);
    assert_eq!(open(dir.path()).unwrap().2, Origin::Restored);
}

#[test]
fn an_empty_file_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE), "").unwrap();
    let Origin::SetAside { why, .. } = open(dir.path()).unwrap().2 else { panic!("it was used") };
    assert_eq!(why, "it is empty");
    assert_eq!(open(dir.path()).unwrap().2, Origin::Restored);
}

#[test]
fn a_store_that_is_missing_beside_one_that_was_set_aside_is_not_a_new_nodes() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE), "garbage").unwrap();
    let Origin::SetAside { kept, .. } = open(dir.path()).unwrap().2 else { panic!("garbage was used") };
    // As if the agent had been killed before it made the new one.
    fs::remove_file(dir.path().join(FILE)).unwrap();
    let (_store, _, origin) = open(dir.path()).unwrap();
    let Origin::SetAside { kept: again, why } = origin else { panic!("{origin:?}") };
    assert_eq!((again, why.as_str()), (kept, "an agent set it aside, and made no other"));
}

#[test]
fn peeking_shows_a_store_that_is_in_use_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let rows = filled(dir.path());
    let (mut store, ..) = open(dir.path()).unwrap();
    store.commit(&[put(Table::Assignments, "new", "row")]).unwrap();
    let path = dir.path().join(FILE);
    let before = fs::read(&path).unwrap();
    let seen = peek(&path, |rows| Ok(rows.clone())).unwrap();
    assert_eq!(seen.len(), rows.len() + 1);
    assert!(fs::read(&path).unwrap() == before, "it was written to");
    for (bytes, word) in [(&before[..5000], "unusable"), (b"garbage", "unusable")] {
        fs::write(dir.path().join("other"), bytes).unwrap();
        let error = peek(&dir.path().join("other"), |rows| Ok(rows.clone())).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
    assert!(matches!(peek(dir.path(), |_| Ok(())), Err(PeekError::Read(..))));
}

#[test]
fn a_newer_schema_is_set_aside_with_a_clear_word() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _, _) = open(dir.path()).unwrap();
    store.commit(&[put(Table::Meta, SCHEMA_KEY, "7"), put(Table::Assignments, "a", "b")]).unwrap();
    drop(store);
    let (mut store, rows, origin) = open(dir.path()).unwrap();
    let Origin::SetAside { kept, why } = origin else { panic!("{origin:?}") };
    assert!(kept.exists() && rows.is_empty());
    assert_eq!(why, "its schema is 7, and this agent reads 1");
    store.commit(&[put(Table::Assignments, "c", "d")]).unwrap();
    drop(store);
    assert_eq!(open(dir.path()).unwrap().2, Origin::Restored);
}

#[test]
fn only_a_few_stores_are_kept_aside() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..aside::KEPT + 3 {
        fs::write(dir.path().join(FILE), "garbage").unwrap();
        drop(open(dir.path()).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let aside = fs::read_dir(dir.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("unusable"));
    assert_eq!(aside.count(), aside::KEPT);
}

#[tokio::test]
async fn writes_that_come_together_are_committed_together_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _, _) = open(dir.path()).unwrap();
    let (handle, task) = spawn_writer(store);
    let commits: Vec<_> = (0..500)
        .map(|number| handle.commit(vec![put(Table::Assignments, "same", &number.to_string())]))
        .collect();
    for commit in commits {
        commit.await.unwrap();
    }
    drop(handle);
    task.await.unwrap();
    let (_store, rows, _) = open(dir.path()).unwrap();
    assert_eq!(rows[&(Table::Assignments, "same".to_owned())], b"499");
}

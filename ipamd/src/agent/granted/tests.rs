//! Tests of the reading of grants: what is gone, broken or somebody else's changes nothing but what is said.

use super::*;

const ABSENT: &str = "the controller wrote no nodes/worker-1.json yet";

struct Bed {
    dir: tempfile::TempDir,
    reader: Reader,
}

fn bed() -> Bed {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("nodes")).unwrap();
    let place = Place {
        dir: dir.path().to_owned(),
        node: Some("worker-1".parse().unwrap()),
        instance: "i-1".parse().unwrap(),
    };
    Bed { reader: Reader::new(place), dir }
}

fn grant(instance: &str, waits: &str) -> String {
    let ready = waits == "[]";
    format!(
        r#"{{"version": 1, "node": "worker-1", "instance": "{instance}", "placement": {{"mode": "vpcRoute",
        "blocks": ["10.200.0.0/25"], "eni": "eni-1", "sourceDestCheckOff": true, "tables": {{}}}},
        "ready": {ready}, "waits": {waits}, "vpc": null, "coveredSubnets": {{}}}}"#
    )
}

impl Bed {
    fn write(&self, file: &str, text: &str) {
        let path = self.dir.path().join(file);
        let whole = self.dir.path().join("new");
        std::fs::write(&whole, text).unwrap();
        std::fs::rename(whole, path).unwrap();
    }
}

#[test]
fn a_node_is_not_ready_until_its_grant_says_so_and_then_stays_ready() {
    let mut bed = bed();
    assert_eq!(bed.reader.look().not_ready().as_deref(), Some(ABSENT));
    bed.write("nodes/worker-1.json", &grant("i-1", r#"["10.200.0.0/25 in rtb-1: no route yet"]"#));
    let granted = bed.reader.look();
    assert_eq!(granted.not_ready().as_deref(), Some("10.200.0.0/25 in rtb-1: no route yet"));
    assert_eq!(granted.blocks().blocks.len(), 1);
    bed.write("nodes/worker-1.json", &grant("i-1", "[]"));
    assert_eq!(bed.reader.look().not_ready(), None);
    bed.write("nodes/worker-1.json", &grant("i-1", r#"["rtb-1: blackhole, being repaired"]"#));
    let granted = bed.reader.look();
    assert_eq!(granted.not_ready(), None, "the runtime must not give up the node");
    assert_eq!(granted.blocks().waits, ["rtb-1: blackhole, being repaired"], "but no pod is started");
}

#[test]
fn a_file_that_is_broken_gone_or_of_another_instance_takes_nothing_away() {
    let mut bed = bed();
    bed.write("nodes/worker-1.json", &grant("i-1", "[]"));
    bed.write(
        CLUSTER_FILE,
        r#"{"version": 1, "cluster": "c", "poolCidrs": ["10.200.0.0/16"], "nodeAddresses": {}}"#,
    );
    let before = bed.reader.look();
    for (text, why) in [("{", "it is no grant"), (&grant("i-2", "[]"), "it is for i-2, and this is i-1")] {
        bed.write("nodes/worker-1.json", text);
        bed.write(CLUSTER_FILE, "[]");
        let granted = bed.reader.look();
        assert_eq!((&granted.grant, &granted.cluster), (&before.grant, &before.cluster));
        let blocks = granted.blocks();
        assert!(blocks.waits[0].contains(why) && blocks.blocks.len() == 1, "{blocks:?}");
    }
    std::fs::remove_file(bed.dir.path().join("nodes/worker-1.json")).unwrap();
    std::fs::remove_file(bed.dir.path().join(CLUSTER_FILE)).unwrap();
    let granted = bed.reader.look();
    assert_eq!((&granted.grant, &granted.cluster), (&before.grant, &before.cluster));
    assert!(granted.blocks().waits[0].contains("does not know this node any more"));
    bed.write("nodes/worker-1.json", &grant("i-1", "[]"));
    assert_eq!(bed.reader.look().blocks().waits, Vec::<String>::new());
}

#[test]
fn a_file_that_could_not_be_read_for_a_while_is_read_again_though_it_is_the_same() {
    let mut bed = bed();
    let (file, aside) = (bed.dir.path().join("nodes/worker-1.json"), bed.dir.path().join("aside"));
    bed.write("nodes/worker-1.json", &grant("i-1", "[]"));
    assert_eq!(bed.reader.look().blocks().waits, Vec::<String>::new());
    std::fs::rename(&file, &aside).unwrap();
    std::fs::create_dir(&file).unwrap();
    let waits = bed.reader.look().blocks().waits;
    assert!(waits[0].contains("worker-1.json cannot be read"), "{waits:?}");
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    assert_eq!(bed.reader.look().blocks().waits, Vec::<String>::new());
}

#[test]
fn a_node_that_was_moved_to_an_eni_pool_says_so() {
    let mut bed = bed();
    let moved = grant("i-1", "[]").replace("\"vpcRoute\"", "\"eniPool\", \"pool\": \"spare\"");
    bed.write("nodes/worker-1.json", &moved);
    let granted = bed.reader.look();
    assert!(granted.not_ready().is_some_and(|why| why.contains("to the eni pool spare")), "{granted:?}");
}

#[tokio::test]
async fn what_changes_reaches_who_watches() {
    let bed = bed();
    let stop = CancellationToken::new();
    let mut seen = watch(bed.reader.place.clone(), stop.clone()).await;
    assert_eq!(seen.borrow().trouble.as_deref(), Some(ABSENT));
    let (pool, mut events) = mpsc::unbounded_channel();
    tokio::spawn(supply(seen.clone(), pool, Duration::ZERO));
    bed.write("nodes/worker-1.json", &grant("i-1", "[]"));
    seen.wait_for(|granted| granted.was_ready).await.unwrap();
    let Some(Event::Blocks(blocks)) = events.recv().await else { panic!("no event") };
    assert_eq!(blocks, seen.borrow().blocks());
    assert!(blocks.waits.is_empty() && blocks.blocks.len() == 1);
    stop.cancel();
}

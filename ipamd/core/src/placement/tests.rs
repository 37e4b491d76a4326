use super::*;
use Ask::{Prefixes, Singles};
use proptest::prelude::*;

fn eni(number: usize) -> EniId {
    format!("eni-{number}").parse().unwrap()
}

fn site(most: u32) -> Option<Site> {
    Some(Site { subnet: "subnet-1".parse().unwrap(), most })
}

fn ground(rooms: &[u32], new_enis: u32, most: u32) -> Ground {
    let room = |(n, room): (usize, &u32)| Room { eni: eni(n), singles: *room, prefixes: 0, few: 0 };
    Ground {
        rooms: rooms.iter().enumerate().map(room).collect(),
        new_enis,
        site: site(most),
        ..Ground::default()
    }
}

/// ENIs with room for (single addresses, prefixes, a few single addresses).
fn delegated(delegation: PrefixDelegation, rooms: &[(u32, u32, u32)], new_enis: u32, most: u32) -> Ground {
    let room = |(n, (singles, prefixes, few)): (usize, &(u32, u32, u32))| Room {
        eni: eni(n),
        singles: *singles,
        prefixes: *prefixes,
        few: *few,
    };
    Ground {
        rooms: rooms.iter().enumerate().map(room).collect(),
        soon: 0,
        new_enis,
        site: site(9),
        prefix_site: site(most),
        delegation,
    }
}

fn need(must: u32, may: u32) -> Need {
    Need { must, may, prefixes: 0 }
}

fn asks(need: Need, ground: &Ground) -> (Vec<Ask>, Vec<Ask>, u32) {
    let placement = place(need, ground);
    let assigns = placement.assigns.iter().map(|(_, ask)| *ask).collect();
    (assigns, placement.creates.iter().map(|(_, ask)| *ask).collect(), placement.unplaced)
}

#[test]
fn enis_with_room_are_filled_before_new_ones_are_made() {
    let singles = |counts: &[u32]| counts.iter().map(|count| Singles(*count)).collect::<Vec<_>>();
    type Row<'a> = (Need, Ground, (&'a [u32], &'a [u32], u32), &'a str);
    let rows: &[Row] = &[
        (need(3, 0), ground(&[2, 9], 2, 9), (&[2, 1], &[], 0), "fullest first"),
        (need(1, 8), ground(&[9], 2, 9), (&[9], &[], 0), "a call is worth its price"),
        (need(1, 8), ground(&[1, 9], 2, 9), (&[1], &[], 0), "but no call for the extra"),
        (need(27, 8), ground(&[9], 2, 9), (&[9], &[9, 9], 0), "all at once, in parallel"),
        (need(28, 8), ground(&[9], 2, 9), (&[9], &[9, 9], 1), "the node is full"),
        (need(0, 8), ground(&[9], 2, 9), (&[], &[], 0), "nothing to do"),
    ];
    for (need, ground, (assigns, creates, unplaced), why) in rows {
        assert_eq!(asks(*need, ground), (singles(assigns), singles(creates), *unplaced), "{why}");
    }
}

#[test]
fn prefixes_go_where_there_are_any() {
    use PrefixDelegation::{Auto, On};
    let whole = Need { must: 0, may: 0, prefixes: 1 };
    type Row<'a> =
        (PrefixDelegation, Need, &'a [(u32, u32, u32)], u32, u32, (Vec<Ask>, Vec<Ask>, u32), &'a str);
    let rows: &[Row] = &[
        (On, need(2, 8), &[(9, 9, 0)], 2, 9, (vec![Prefixes(1)], vec![], 0), "one is enough for two"),
        (On, need(40, 8), &[(9, 9, 0)], 2, 9, (vec![Prefixes(3)], vec![], 0), "as many as it takes"),
        (
            On,
            need(40, 8),
            &[(2, 2, 0)],
            2,
            9,
            (vec![Prefixes(2)], vec![Prefixes(1)], 0),
            "the rest on a new ENI",
        ),
        (On, need(2, 8), &[(9, 0, 0)], 2, 9, (vec![], vec![Prefixes(1)], 0), "a sibling subnet has some"),
        (
            On,
            need(2, 8),
            &[(9, 0, 0)],
            0,
            9,
            (vec![Singles(9)], vec![], 0),
            "but no ENI is left: single addresses",
        ),
        (On, need(2, 8), &[(9, 0, 0)], 2, 0, (vec![Singles(9)], vec![], 0), "no subnet has any"),
        (On, whole, &[(9, 9, 0)], 2, 9, (vec![Prefixes(1)], vec![], 0), "only a whole one lacks"),
        (On, whole, &[(0, 0, 0)], 2, 9, (vec![], vec![], 0), "for which no ENI is made"),
        (Auto, need(2, 8), &[(9, 9, 2)], 2, 9, (vec![Singles(2)], vec![], 0), "not worth a prefix"),
        (Auto, need(3, 8), &[(9, 9, 2)], 2, 9, (vec![Prefixes(1)], vec![], 0), "worth one"),
        (
            Auto,
            need(1, 8),
            &[(9, 9, 0)],
            2,
            9,
            (vec![Prefixes(1)], vec![], 0),
            "enough single ones are there",
        ),
    ];
    for (delegation, need, rooms, new_enis, most, expected, why) in rows {
        assert_eq!(asks(*need, &delegated(*delegation, rooms, *new_enis, *most)), *expected, "{why}");
    }
}

#[test]
fn a_need_that_fits_on_a_busy_eni_waits_for_it() {
    let ground = Ground { soon: 7, ..ground(&[], 2, 9) };
    let placement = place(need(8, 8), &ground);
    assert_eq!((placement.waits, placement.unplaced), (7, 0));
    assert_eq!(placement.creates.len(), 1);
}

fn delegations() -> impl Strategy<Value = PrefixDelegation> {
    prop_oneof![Just(PrefixDelegation::Off), Just(PrefixDelegation::Auto), Just(PrefixDelegation::On)]
}

proptest! {
    #[test]
    fn nothing_is_placed_twice_or_beyond_a_limit(
        must in 0..80u32, may in 0..20u32, rooms in prop::collection::vec(0..12u32, 0..5), new in 0..4u32, most in 0..12u32,
    ) {
        let ground = ground(&rooms, new, most);
        let (assigns, creates, unplaced) = asks(need(must, may), &ground);
        let placed: u32 = assigns.iter().chain(&creates).map(|ask| ask.addresses()).sum();
        prop_assert!(placed + unplaced >= must && placed <= must - unplaced + may);
        prop_assert!(creates.len() <= new as usize && creates.iter().all(|ask| (1..=most).contains(&ask.places())));
        prop_assert!(unplaced == 0 || placed == rooms.iter().sum::<u32>() + new * most);
    }

    #[test]
    fn each_eni_gets_one_call_of_what_fits_and_prefixes_are_never_one_too_many(
        must in 0..80u32, prefixes in 0..3u32, delegation in delegations(), new in 0..4u32, most in 0..12u32, soon in 0..20u32,
        rooms in prop::collection::vec((0..12u32, any::<bool>(), 0..3u32), 0..5),
    ) {
        let rooms: Vec<_> = rooms.iter().map(|(room, some, few)| (*room, if *some { *room } else { 0 }, *few.min(room))).collect();
        let ground = Ground { soon, ..delegated(delegation, &rooms, new, most) };
        let need = Need { must, may: 0, prefixes };
        let placement = place(need, &ground);
        let mut seen = std::collections::BTreeSet::new();
        for (eni, ask) in &placement.assigns {
            prop_assert!(seen.insert(eni.clone()) && ask.places() > 0);
            let room = ground.rooms.iter().find(|room| room.eni == *eni).unwrap();
            let most = if ask.prefixes() > 0 { room.prefixes } else { room.singles };
            prop_assert!(ask.places() <= most);
        }
        prop_assert!(placement.creates.len() <= new as usize);
        let all = || placement.assigns.iter().map(|(_, ask)| ask).chain(placement.creates.iter().map(|(_, ask)| ask));
        let placed: u32 = all().map(|ask| ask.addresses()).sum();
        prop_assert!(placed + placement.waits + placement.unplaced >= must);
        let asked: u32 = all().map(|ask| ask.prefixes()).sum();
        prop_assert!(asked <= must.div_ceil(16).max(prefixes) + 1);
    }
}

//! Where new addresses go: fill ENIs that have room, fullest first, before making new ones, so that whole ENIs become free again
//! later. One call per ENI, several ENIs in parallel. Limits come in as numbers; nothing here knows why a number is what it is.

use crate::sizing::Need;
use spur_cloud::{EniId, SubnetId};

/// An ENI that can take more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Room {
    /// Which.
    pub(crate) eni: EniId,
    /// How many more at most.
    pub(crate) room: u32,
}

/// A subnet in which an ENI can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site {
    /// Which.
    pub(crate) subnet: SubnetId,
    /// Addresses for pods at most per call: the ENI's capacity, or less while the subnet is tight.
    pub(crate) most: u32,
}

/// Where growth may go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Ground {
    /// ENIs with room, best first.
    pub(crate) rooms: Vec<Room>,
    /// Room on ENIs that are busy: a need that fits there waits for them rather than making an ENI.
    pub(crate) soon: u32,
    /// ENIs that may be made.
    pub(crate) new_enis: u32,
    /// The subnet to make them in, if one is good at the moment.
    pub(crate) site: Option<Site>,
}

/// What to ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Placement {
    /// Addresses for ENIs that exist.
    pub(crate) assigns: Vec<(EniId, u32)>,
    /// New ENIs, with so many addresses.
    pub(crate) creates: Vec<(SubnetId, u32)>,
    /// What waits for ENIs that are busy.
    pub(crate) waits: u32,
    /// What found no place.
    pub(crate) unplaced: u32,
}

/// Spreads a need over the ground.
pub(crate) fn place(need: Need, ground: &Ground) -> Placement {
    let mut placement = Placement::default();
    let Need { mut must, mut may } = need;
    let mut take = |most: u32, must: &mut u32| {
        let needed = (*must).min(most);
        let more = may.min(most - needed);
        *must -= needed;
        may -= more;
        needed + more
    };
    for room in ground.rooms.iter().filter(|room| room.room > 0) {
        if must == 0 {
            break;
        }
        placement.assigns.push((room.eni.clone(), take(room.room, &mut must)));
    }
    let waits = must.min(ground.soon);
    must -= waits;
    let site = ground.site.as_ref().filter(|site| site.most > 0);
    for site in site.into_iter().cycle().take(ground.new_enis as usize) {
        if must == 0 {
            break;
        }
        placement.creates.push((site.subnet.clone(), take(site.most, &mut must)));
    }
    placement.unplaced = must;
    placement.waits = waits;
    placement
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ground(rooms: &[u32], new_enis: u32, most: u32) -> Ground {
        let eni = |n: usize| format!("eni-{n}").parse().unwrap();
        Ground {
            rooms: rooms.iter().enumerate().map(|(n, room)| Room { eni: eni(n), room: *room }).collect(),
            soon: 0,
            new_enis,
            site: Some(Site { subnet: "subnet-1".parse().unwrap(), most }),
        }
    }

    fn counts(need: Need, ground: &Ground) -> (Vec<u32>, Vec<u32>, u32) {
        let placement = place(need, ground);
        let assigns = placement.assigns.iter().map(|(_, count)| *count).collect();
        (assigns, placement.creates.iter().map(|(_, count)| *count).collect(), placement.unplaced)
    }

    #[test]
    fn enis_with_room_are_filled_before_new_ones_are_made() {
        let rows = [
            (Need { must: 3, may: 0 }, ground(&[2, 9], 2, 9), (vec![2, 1], vec![], 0), "fullest first"),
            (Need { must: 1, may: 8 }, ground(&[9], 2, 9), (vec![9], vec![], 0), "a call is worth its price"),
            (
                Need { must: 1, may: 8 },
                ground(&[1, 9], 2, 9),
                (vec![1], vec![], 0),
                "but no call for the extra",
            ),
            (
                Need { must: 27, may: 8 },
                ground(&[9], 2, 9),
                (vec![9], vec![9, 9], 0),
                "all at once, in parallel",
            ),
            (Need { must: 28, may: 8 }, ground(&[9], 2, 9), (vec![9], vec![9, 9], 1), "the node is full"),
            (Need { must: 0, may: 8 }, ground(&[9], 2, 9), (vec![], vec![], 0), "nothing to do"),
        ];
        for (need, ground, expected, why) in rows {
            assert_eq!(counts(need, &ground), expected, "{why}");
        }
    }

    #[test]
    fn a_need_that_fits_on_a_busy_eni_waits_for_it() {
        let ground = Ground { soon: 7, ..ground(&[], 2, 9) };
        let placement = place(Need { must: 8, may: 8 }, &ground);
        assert_eq!((placement.waits, placement.unplaced), (7, 0));
        assert_eq!(placement.creates.len(), 1);
    }

    proptest! {
        #[test]
        fn nothing_is_placed_twice_or_beyond_a_limit(
            must in 0..80u32, may in 0..20u32, rooms in prop::collection::vec(0..12u32, 0..5), new in 0..4u32, most in 0..12u32,
        ) {
            let ground = ground(&rooms, new, most);
            let (assigns, creates, unplaced) = counts(Need { must, may }, &ground);
            let placed: u32 = assigns.iter().chain(&creates).sum();
            prop_assert!(placed + unplaced >= must && placed <= must - unplaced + may);
            prop_assert!(creates.len() <= new as usize && creates.iter().all(|count| (1..=most).contains(count)));
            prop_assert!(unplaced == 0 || placed == rooms.iter().sum::<u32>() + new * most);
        }
    }
}

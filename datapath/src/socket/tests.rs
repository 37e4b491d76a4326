//! What the socket makes of the kernel's answers, without a kernel: refusals, torn lists, odd bytes.

use super::*;

#[test]
fn acknowledgements_of_any_length_are_judged_without_panic() {
    let ask = Ask { what: "test".into(), message: Message::new(0, 0, &[]), tolerated: &[Errno::EXIST] };
    for kind in [NLMSG_ERROR, NLMSG_DONE] {
        for flags in [0, F_ACK_TLVS, F_ACK_TLVS | F_CAPPED] {
            for length in 0..40 {
                for fill in [0, 1, 0x7f, 0x80, 0xff] {
                    let _ = judge(&ask, &Received { kind, flags, sequence: 1, payload: vec![fill; length] });
                }
            }
        }
    }
}

#[test]
fn a_refusal_carries_the_kernels_words_and_a_tolerated_one_is_done() {
    let mut payload = (-17_i32).to_ne_bytes().to_vec();
    payload.extend([0; HEADER]);
    let mut words = Vec::new();
    assert!(Message::new(0, 0, &[]).put_str(NLMSGERR_ATTR_MSG, "File is there").finish_into(0, &mut words));
    payload.extend(&words[HEADER..]);
    let received = Received { kind: NLMSG_ERROR, flags: F_ACK_TLVS | F_CAPPED, sequence: 1, payload };
    let mut ask = Ask { what: "add it".into(), message: Message::new(0, 0, &[]), tolerated: &[] };
    let refused = judge(&ask, &received).unwrap_err();
    assert_eq!(
        (refused.to_string().as_str(), refused.errno()),
        ("add it (kernel: File is there)", Some(Errno::EXIST))
    );
    ask.tolerated = &[Errno::EXIST];
    assert!(!judge(&ask, &received).unwrap());
}

fn message(kind: u16, flags: u16, code: i32) -> Received {
    Received { kind, flags, sequence: 1, payload: code.to_ne_bytes().to_vec() }
}

#[test]
fn a_list_that_was_torn_is_read_again() {
    let ask = Ask { what: "list".into(), message: Message::new(0, 0, &[]), tolerated: &[Errno::NOENT] };
    let read = |messages: &[Received]| {
        let mut listing = Listing::new(&Some);
        messages.iter().find_map(|one| listing.take(&ask, one.clone())).expect("the list ends")
    };
    let object = || message(16, 0, 7);
    assert_eq!(read(&[object(), object(), message(NLMSG_DONE, 0, 0)]).unwrap().map(|all| all.len()), Some(2));
    assert_eq!(read(&[object(), message(16, F_DUMP_INTR, 7), message(NLMSG_DONE, 0, 0)]).unwrap(), None);
    assert_eq!(read(&[object(), message(NLMSG_DONE, F_DUMP_INTR, 0)]).unwrap(), None);
    assert_eq!(read(&[object(), message(NLMSG_DONE, 0, -4)]).unwrap(), None, "EINTR");
    assert_eq!(read(&[message(NLMSG_ERROR, 0, -16)]).unwrap(), None, "EBUSY");
    assert_eq!(
        read(&[message(NLMSG_ERROR, 0, -2)]).unwrap(),
        Some(vec![]),
        "what is tolerated is an empty list"
    );
    assert_eq!(read(&[message(NLMSG_ERROR, 0, -1)]).unwrap_err().errno(), Some(Errno::PERM));
}

#[test]
fn of_a_long_list_only_what_is_kept_is_held() {
    let ask = Ask { what: "list".into(), message: Message::new(0, 0, &[]), tolerated: &[] };
    let keep = |one: Received| (one.payload[0] == 7).then_some(one.payload[0]);
    let mut listing = Listing::new(&keep);
    for code in 0..10 {
        assert!(listing.take(&ask, message(16, 0, code)).is_none());
    }
    assert_eq!(listing.kept, [7]);
    assert_eq!(listing.take(&ask, message(NLMSG_DONE, 0, 0)).unwrap().unwrap(), Some(vec![7]));
}

//! Masqueraders of others, written into a real kernel by the programs that write them on real nodes: `iptables` on nf_tables, and `nft`.

#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use ipnet::Ipv4Net;
use spur_datapath::nft::Nft;
use support::TestNs;

impl TestNs {
    fn found(&self) -> Vec<String> {
        let pods: [Ipv4Net; 2] = ["10.0.1.20/32".parse().unwrap(), "10.200.3.0/25".parse().unwrap()];
        let found = Nft::open_in(&self.ns).unwrap().masqueraders("spur", &pods).unwrap();
        found.iter().map(|found| format!("{} {} {}", found.table, found.chain, found.covers)).collect()
    }
}

/// What each program is known to write, by its name, and what must be said of it.
const WRITTEN: &[(&str, &str, &[&str])] = &[
    (
        "portmap",
        "*nat\n:CNI-HOSTPORT-MASQ - [0:0]\n\
         -A POSTROUTING -m comment --comment \"CNI portfwd requiring masquerade\" -j CNI-HOSTPORT-MASQ\n\
         -A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE\nCOMMIT\n",
        &[],
    ),
    ("Docker", "*nat\n-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE\nCOMMIT\n", &[]),
    (
        "the VPC CNI",
        "*nat\n:AWS-SNAT-CHAIN-0 - [0:0]\n-A POSTROUTING -m comment --comment \"AWS SNAT CHAIN\" -j AWS-SNAT-CHAIN-0\n\
         -A AWS-SNAT-CHAIN-0 ! -d 10.0.0.0/16 ! -o vlan+ -m comment --comment \"AWS, SNAT\" -m addrtype ! --dst-type LOCAL \
         -j SNAT --to-source 10.0.1.10 --random-fully\nCOMMIT\n",
        &["ip nat AWS-SNAT-CHAIN-0 10.0.1.20/32"],
    ),
    (
        "ip-masq-agent",
        "*nat\n:IP-MASQ-AGENT - [0:0]\n\
         -A POSTROUTING -m comment --comment \"ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom IP-MASQ-AGENT chain\" -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT\n\
         -A IP-MASQ-AGENT -d 169.254.0.0/16 -m comment --comment \"ip-masq-agent: local traffic is not subject to MASQUERADE\" -j RETURN\n\
         -A IP-MASQ-AGENT -d 10.0.0.0/8 -j RETURN\n\
         -A IP-MASQ-AGENT -m comment --comment \"ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)\" -j MASQUERADE\nCOMMIT\n",
        &["ip nat IP-MASQ-AGENT 10.0.1.20/32"],
    ),
    (
        "flannel, whose network is the blocks' pool",
        "*nat\n:FLANNEL-POSTRTG - [0:0]\n-A POSTROUTING -m comment --comment \"flanneld masq\" -j FLANNEL-POSTRTG\n\
         -A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment \"flanneld masq\" -j RETURN\n\
         -A FLANNEL-POSTRTG -s 10.200.0.0/16 -d 10.200.0.0/16 -m comment --comment \"flanneld masq\" -j RETURN\n\
         -A FLANNEL-POSTRTG -s 10.200.0.0/16 ! -d 224.0.0.0/4 -m comment --comment \"flanneld masq\" -j MASQUERADE --random-fully\nCOMMIT\n",
        &["ip nat FLANNEL-POSTRTG 10.200.3.0/25"],
    ),
    (
        "another CNI plugin with ipMasq, for its own pod",
        "*nat\n:CNI-0123456789abcdef01234567 - [0:0]\n\
         -A POSTROUTING -s 10.22.0.5/32 -m comment --comment \"name: \\\"other\\\" id: \\\"x\\\"\" -j CNI-0123456789abcdef01234567\n\
         -A CNI-0123456789abcdef01234567 -d 10.22.0.0/16 -j ACCEPT\n\
         -A CNI-0123456789abcdef01234567 ! -d 224.0.0.0/4 -j MASQUERADE\nCOMMIT\n",
        &[],
    ),
    (
        "a CNI plugin with ipMasq, for a pod of ours",
        "*nat\n:CNI-0123456789abcdef01234567 - [0:0]\n-A POSTROUTING -s 10.0.1.20/32 -j CNI-0123456789abcdef01234567\n\
         -A CNI-0123456789abcdef01234567 ! -d 224.0.0.0/4 -j MASQUERADE\nCOMMIT\n",
        &["ip nat CNI-0123456789abcdef01234567 10.0.1.20/32"],
    ),
];

#[test]
#[ignore = "needs root"]
fn masqueraders_written_by_iptables_are_named_when_they_cover_pods_and_only_then() {
    for (who, rules, expected) in WRITTEN {
        let ns = TestNs::new("foreign");
        ns.feed("iptables-nft-restore --noflush", rules);
        assert_eq!(ns.found(), *expected, "{who}");
    }
}

#[test]
#[ignore = "needs root"]
fn masqueraders_written_by_nft_are_named_and_our_own_table_is_not() {
    let ns = TestNs::new("foreign");
    ns.feed(
        "nft -f -",
        "table ip spur { chain postrouting { type nat hook postrouting priority 105; masquerade; }; }
         table inet mine {
           chain out { ip saddr 10.200.0.0/16 oifname \"eth0\" goto there; }
           chain there { ip daddr != 10.0.0.0/8 snat ip to 192.0.2.1; }
           chain post { type nat hook postrouting priority 90; jump out; }
           chain unused { masquerade; }
         }
         table ip other { chain post { type nat hook postrouting priority 101; ip saddr != 10.200.0.0/17 masquerade; }; }
         table ip services { chain post { type nat hook postrouting priority 102; ct status dnat masquerade; }; }
         table ip unserved { chain post { type nat hook postrouting priority 103; ct status & dnat == 0 masquerade; }; }
         table ip answered { chain post { type nat hook postrouting priority 104; ct status & (dnat | assured) != 0 masquerade; }; }",
    );
    assert_eq!(
        ns.found(),
        [
            "inet mine there 10.200.3.0/25",
            "ip answered post 10.0.1.20/32",
            "ip other post 10.0.1.20/32",
            "ip unserved post 10.0.1.20/32"
        ]
    );
}

#[test]
#[ignore = "needs root"]
fn a_namespace_without_rules_has_no_masquerader() {
    assert_eq!(TestNs::new("foreign").found(), [""; 0]);
}

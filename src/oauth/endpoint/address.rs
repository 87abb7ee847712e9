//! Which addresses a provider may have: one pure function from an address to a verdict.
//!
//! Whoever may write a provider object chooses where the operator connects to. What only the operator's
//! network reaches (the cluster, the nodes, the cloud's metadata service) must not be among it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The rule that refuses an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A metadata or credentials service of a cloud. Never allowed.
    #[error("a metadata service of a cloud")]
    Metadata,
    /// `0.0.0.0/8` and `::`: this host (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.2).
    #[error("an unspecified address")]
    Unspecified,
    /// `127.0.0.0/8` and `::1`.
    #[error("a loopback address")]
    Loopback,
    /// RFC 1918, unique local (RFC 4193) and site-local (RFC 3879) addresses.
    #[error("a private address")]
    Private,
    /// `100.64.0.0/10`, between a provider and its customers (RFC 6598).
    #[error("a shared address (100.64.0.0/10)")]
    Shared,
    /// `169.254.0.0/16` and `fe80::/10`.
    #[error("a link-local address")]
    LinkLocal,
    /// `224.0.0.0/4` and `ff00::/8`.
    #[error("a multicast address")]
    Multicast,
    /// `255.255.255.255`.
    #[error("the broadcast address")]
    Broadcast,
    /// For documentation (RFC 5737, RFC 3849, RFC 9637).
    #[error("an address for documentation")]
    Documentation,
    /// For benchmarks (RFC 2544, RFC 5180).
    #[error("an address for benchmarks")]
    Benchmarking,
    /// Assigned to protocols, or to nobody (RFC 6890).
    #[error("a reserved address")]
    Reserved,
}

/// Metadata and credentials services that are reached at an IPv4 address.
const METADATA_V4: [Ipv4Addr; 6] = [
    Ipv4Addr::new(169, 254, 169, 254), // most clouds
    Ipv4Addr::new(169, 254, 170, 2),   // AWS: credentials of a task
    Ipv4Addr::new(169, 254, 170, 23),  // AWS: credentials of a pod
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba Cloud
    Ipv4Addr::new(192, 0, 0, 192),     // Oracle Cloud, the older one
    Ipv4Addr::new(168, 63, 129, 16),   // Azure: the host's agent; looks like a public address
];

/// Those at an IPv6 address.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), // AWS
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),  // AWS: credentials of a pod
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),  // Google Cloud
];

/// Whether a provider may be at `address`, where the operator was told to allow the networks `allowed`.
///
/// An IPv6 address that carries IPv4 addresses (mapped, compatible, NAT64, 6to4, Teredo) is judged by
/// those, because that is where the packets go.
///
/// # Errors
/// The rule that refuses it.
pub fn verdict(address: IpAddr, allowed: &[IpNet]) -> Result<(), Refused> {
    match address.to_canonical() {
        IpAddr::V4(address) => verdict_v4(address, allowed),
        IpAddr::V6(address) => verdict_v6(address, allowed),
    }
}

fn verdict_v4(address: Ipv4Addr, allowed: &[IpNet]) -> Result<(), Refused> {
    if METADATA_V4.contains(&address) {
        return Err(Refused::Metadata);
    }
    if is_in(IpAddr::V4(address), allowed) {
        return Ok(());
    }
    let [a, b, c, _] = address.octets();
    Err(match (a, b, c) {
        (0, ..) => Refused::Unspecified,
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Refused::Private,
        (100, 64..=127, _) => Refused::Shared,
        (127, ..) => Refused::Loopback,
        (169, 254, _) => Refused::LinkLocal,
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => Refused::Documentation,
        (198, 18..=19, _) => Refused::Benchmarking,
        (224..=239, ..) => Refused::Multicast,
        (240..=255, ..) if address.is_broadcast() => Refused::Broadcast,
        // Protocol assignments, the relays of 6to4, which are withdrawn (RFC 7526), and class E.
        (192, 0, 0) | (192, 88, 99) | (240..=255, ..) => Refused::Reserved,
        _ => return Ok(()),
    })
}

fn verdict_v6(address: Ipv6Addr, allowed: &[IpNet]) -> Result<(), Refused> {
    if METADATA_V6.contains(&address) {
        return Err(Refused::Metadata);
    }
    let carried = carried(address);
    if carried.iter().any(|v4| METADATA_V4.contains(v4)) {
        return Err(Refused::Metadata);
    }
    if is_in(IpAddr::V6(address), allowed) {
        return Ok(());
    }
    if !carried.is_empty() {
        return carried
            .into_iter()
            .try_for_each(|v4| verdict_v4(v4, allowed));
    }
    let [a, b, c, ..] = address.segments();
    Err(match (a, b, c) {
        _ if address.is_unspecified() => Refused::Unspecified,
        _ if address.is_loopback() => Refused::Loopback,
        (0xfc00..=0xfdff | 0xfec0..=0xfeff, ..) => Refused::Private,
        (0xfe80..=0xfebf, ..) => Refused::LinkLocal,
        (0xff00..=0xffff, ..) => Refused::Multicast,
        (0x2001, 0xdb8, _) | (0x3fff, 0..=0xfff, _) => Refused::Documentation,
        (0x2001, 2, 0) => Refused::Benchmarking,
        // Protocol assignments (RFC 2928).
        (0x2001, 0..=0x1ff, _) => Refused::Reserved,
        // What is assigned to hosts (RFC 4291 section 2.4 and IANA's registry).
        (0x2000..=0x3fff, ..) => return Ok(()),
        _ => Refused::Reserved,
    })
}

/// The IPv4 addresses inside an IPv6 address; none where it is a plain one.
fn carried(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        // `::` and `::1` have their own rules.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Vec::new(),
        // Compatible (RFC 4291 section 2.5.5.1) and NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            vec![v4(high, low)]
        }
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => vec![v4(high, low)],
        // Teredo (RFC 4380 section 4): the server, and the client with its bits turned over.
        [0x2001, 0, server_high, server_low, _, _, high, low] => {
            vec![v4(server_high, server_low), v4(!high, !low)]
        }
        _ => Vec::new(),
    }
}

fn is_in(address: IpAddr, networks: &[IpNet]) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judge(address: &str, allowed: &[&str]) -> Result<(), Refused> {
        let allowed: Vec<IpNet> = allowed.iter().map(|n| n.parse().unwrap()).collect();
        verdict(address.parse().unwrap(), &allowed)
    }

    /// Address, and the rule that refuses it; the edges of each network, and what lies just outside.
    const TABLE: [(&str, Result<(), Refused>); 139] = {
        use Refused as R;
        [
            ("0.0.0.0", Err(R::Unspecified)),
            ("0.255.255.255", Err(R::Unspecified)),
            ("1.0.0.0", Ok(())),
            ("9.255.255.255", Ok(())),
            ("10.0.0.0", Err(R::Private)),
            ("10.255.255.255", Err(R::Private)),
            ("11.0.0.0", Ok(())),
            ("100.63.255.255", Ok(())),
            ("100.64.0.0", Err(R::Shared)),
            ("100.127.255.255", Err(R::Shared)),
            ("100.128.0.0", Ok(())),
            ("100.100.100.200", Err(R::Metadata)),
            ("126.255.255.255", Ok(())),
            ("127.0.0.0", Err(R::Loopback)),
            ("127.0.0.1", Err(R::Loopback)),
            ("127.255.255.255", Err(R::Loopback)),
            ("128.0.0.0", Ok(())),
            ("168.63.129.15", Ok(())),
            ("168.63.129.16", Err(R::Metadata)),
            ("169.253.255.255", Ok(())),
            ("169.254.0.0", Err(R::LinkLocal)),
            ("169.254.169.254", Err(R::Metadata)),
            ("169.254.170.2", Err(R::Metadata)),
            ("169.254.170.23", Err(R::Metadata)),
            ("169.254.255.255", Err(R::LinkLocal)),
            ("169.255.0.0", Ok(())),
            ("172.15.255.255", Ok(())),
            ("172.16.0.0", Err(R::Private)),
            ("172.31.255.255", Err(R::Private)),
            ("172.32.0.0", Ok(())),
            ("191.255.255.255", Ok(())),
            ("192.0.0.0", Err(R::Reserved)),
            ("192.0.0.192", Err(R::Metadata)),
            ("192.0.0.255", Err(R::Reserved)),
            ("192.0.1.0", Ok(())),
            ("192.0.2.0", Err(R::Documentation)),
            ("192.0.2.255", Err(R::Documentation)),
            ("192.0.3.0", Ok(())),
            ("192.88.98.255", Ok(())),
            ("192.88.99.1", Err(R::Reserved)),
            ("192.167.255.255", Ok(())),
            ("192.168.0.0", Err(R::Private)),
            ("192.168.255.255", Err(R::Private)),
            ("192.169.0.0", Ok(())),
            ("198.17.255.255", Ok(())),
            ("198.18.0.0", Err(R::Benchmarking)),
            ("198.19.255.255", Err(R::Benchmarking)),
            ("198.20.0.0", Ok(())),
            ("198.51.99.255", Ok(())),
            ("198.51.100.0", Err(R::Documentation)),
            ("198.51.100.255", Err(R::Documentation)),
            ("198.51.101.0", Ok(())),
            ("203.0.112.255", Ok(())),
            ("203.0.113.0", Err(R::Documentation)),
            ("203.0.113.255", Err(R::Documentation)),
            ("203.0.114.0", Ok(())),
            ("223.255.255.255", Ok(())),
            ("224.0.0.0", Err(R::Multicast)),
            ("239.255.255.255", Err(R::Multicast)),
            ("240.0.0.0", Err(R::Reserved)),
            ("255.255.255.254", Err(R::Reserved)),
            ("255.255.255.255", Err(R::Broadcast)),
            ("8.8.8.8", Ok(())),
            // IPv6
            ("::", Err(R::Unspecified)),
            ("::1", Err(R::Loopback)),
            ("100::1", Err(R::Reserved)),
            ("1fff:ffff::1", Err(R::Reserved)),
            ("2000::1", Ok(())),
            ("2001:1::1", Err(R::Reserved)),
            ("2001:2::1", Err(R::Benchmarking)),
            ("2001:2:1::1", Err(R::Reserved)),
            ("2001:20::1", Err(R::Reserved)),
            ("2001:1ff:ffff::1", Err(R::Reserved)),
            ("2001:200::1", Ok(())),
            ("2001:4860:4860::8888", Ok(())),
            ("2001:db7:ffff::1", Ok(())),
            ("2001:db8::1", Err(R::Documentation)),
            ("2001:db8:ffff::1", Err(R::Documentation)),
            ("2001:db9::1", Ok(())),
            ("2606:4700::1", Ok(())),
            ("3ffe:ffff::1", Ok(())),
            ("3fff::1", Err(R::Documentation)),
            ("3fff:fff::1", Err(R::Documentation)),
            ("3fff:1000::1", Ok(())),
            ("4000::1", Err(R::Reserved)),
            ("5f00::1", Err(R::Reserved)),
            ("fbff:ffff::1", Err(R::Reserved)),
            ("fc00::1", Err(R::Private)),
            ("fd00:ec2::254", Err(R::Metadata)),
            ("fd00:ec2::23", Err(R::Metadata)),
            ("fd00:ec2::255", Err(R::Private)),
            ("fd20:ce::254", Err(R::Metadata)),
            ("fdff:ffff::1", Err(R::Private)),
            ("fe00::1", Err(R::Reserved)),
            ("fe80::1", Err(R::LinkLocal)),
            ("febf:ffff::1", Err(R::LinkLocal)),
            ("fec0::1", Err(R::Private)),
            ("feff:ffff::1", Err(R::Private)),
            ("ff02::1", Err(R::Multicast)),
            ("ffff:ffff::1", Err(R::Multicast)),
            // IPv4 in IPv6: mapped
            ("::ffff:8.8.8.8", Ok(())),
            ("::ffff:10.0.0.1", Err(R::Private)),
            ("::ffff:127.0.0.1", Err(R::Loopback)),
            ("::ffff:0.0.0.0", Err(R::Unspecified)),
            ("::ffff:169.254.169.254", Err(R::Metadata)),
            ("::ffff:255.255.255.255", Err(R::Broadcast)),
            // compatible
            ("::8.8.8.8", Ok(())),
            ("::10.0.0.1", Err(R::Private)),
            ("::127.0.0.1", Err(R::Loopback)),
            ("::0.0.0.2", Err(R::Unspecified)),
            ("::169.254.169.254", Err(R::Metadata)),
            // NAT64
            ("64:ff9b::8.8.8.8", Ok(())),
            ("64:ff9b::10.0.0.1", Err(R::Private)),
            ("64:ff9b::127.0.0.1", Err(R::Loopback)),
            ("64:ff9b::100.64.0.1", Err(R::Shared)),
            ("64:ff9b::169.254.169.254", Err(R::Metadata)),
            ("64:ff9b::1:8.8.8.8", Err(R::Reserved)),
            ("64:ff9b:1::8.8.8.8", Err(R::Reserved)),
            // 6to4
            ("2002:808:808::1", Ok(())),
            ("2002:a00:1::1", Err(R::Private)),
            ("2002:7f00:1::1", Err(R::Loopback)),
            ("2002:c0a8:101::1", Err(R::Private)),
            ("2002:a9fe:a9fe::1", Err(R::Metadata)),
            ("2002:e000:1::1", Err(R::Multicast)),
            // Teredo: the server is 8.8.8.8, then the client's
            ("2001:0:808:808:0:0:f7f7:f7f7", Ok(())),
            ("2001:0:808:808:0:0:f5ff:fffe", Err(R::Private)),
            ("2001:0:808:808:0:0:80ff:fffe", Err(R::Loopback)),
            ("2001:0:808:808:0:0:5601:5601", Err(R::Metadata)),
            ("2001:0:808:808::", Err(R::Broadcast)),
            // and the other way round
            ("2001:0:a00:1:0:0:f7f7:f7f7", Err(R::Private)),
            ("2001:0:a9fe:a9fe:0:0:f7f7:f7f7", Err(R::Metadata)),
            ("2001:0:7f00:1:0:0:f7f7:f7f7", Err(R::Loopback)),
            // what only looks like one of these
            ("::1:8.8.8.8", Err(R::Reserved)),
            ("::fffe:8.8.8.8", Err(R::Reserved)),
            ("::ffff:0:8.8.8.8", Err(R::Reserved)),
            ("2003:a00:1::1", Ok(())),
            ("2606:4700::10.0.0.1", Ok(())),
            ("2a00:1450:4001::1", Ok(())),
            ("2001:5:0:0:0:0:f5ff:fffe", Err(R::Reserved)),
        ]
    };

    #[test]
    fn the_whole_table() {
        for (address, expected) in TABLE {
            assert_eq!(judge(address, &[]), expected, "{address}");
        }
    }

    #[test]
    fn an_allowed_network_lifts_every_rule_but_that_about_metadata() {
        for (address, plain) in TABLE {
            let expected = match plain {
                Err(Refused::Metadata) => Err(Refused::Metadata),
                _ => Ok(()),
            };
            assert_eq!(
                judge(address, &["0.0.0.0/0", "::/0"]),
                expected,
                "{address}"
            );
        }
    }

    #[test]
    fn an_allowed_network_allows_nothing_else() {
        let allowed = ["10.1.0.0/16", "fd12::/16"];
        for (address, expected) in [
            ("10.1.2.3", Ok(())),
            ("10.2.0.1", Err(Refused::Private)),
            ("::ffff:10.1.2.3", Ok(())),
            ("64:ff9b::10.1.2.3", Ok(())),
            ("2002:a01:203::1", Ok(())),
            ("::ffff:10.2.0.1", Err(Refused::Private)),
            ("fd12::1", Ok(())),
            ("fd13::1", Err(Refused::Private)),
            ("8.8.8.8", Ok(())),
            ("127.0.0.1", Err(Refused::Loopback)),
        ] {
            assert_eq!(judge(address, &allowed), expected, "{address}");
        }
        // A network of IPv6 addresses says nothing about IPv4, however it is written.
        let mapped = judge("::ffff:10.1.2.3", &["::/0"]);
        assert_eq!(mapped, Err(Refused::Private));
    }

    proptest! {
        #[test]
        fn an_address_inside_another_is_judged_as_itself(bits: u32) {
            let v4 = Ipv4Addr::from(bits);
            // `::` and `::1` are addresses of their own.
            prop_assume!(bits > 1);
            let plain = verdict(v4.into(), &[]);
            let (high, low) = ((bits >> 16) as u16, (bits & 0xffff) as u16);
            for v6 in [
                v4.to_ipv6_mapped(),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, high, low, 0, 0, !0x0808, !0x0808),
                Ipv6Addr::new(0x2001, 0, 0x0808, 0x0808, 0, 0, !high, !low),
            ] {
                prop_assert_eq!(verdict(v6.into(), &[]), plain, "{}", v6);
            }
        }
    }
}

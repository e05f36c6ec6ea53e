//! Which addresses a step may reach: those of the public internet, and the networks that the operator opens. Pure.
//!
//! After the IANA special-purpose address registries (RFC 6890 and its updates). In IPv6 only 2000::/3 is handed out for the public
//! internet, so all else is refused, and of it what carries an IPv4 address or is no host's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Networks opened by the operator, beside the public internet.
#[derive(Clone, Debug, Default)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Such as `10.1.0.0/16`, `127.0.0.1/32` or a single address.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let one = |text: &String| {
            let net = text.parse::<IpNet>();
            net.or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                .map_err(|_| {
                    format!("\"{text}\" is no network; write it as 10.1.0.0/16 or fd00::/8")
                })
        };
        texts.iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// Why this address is not to be reached.
    pub(super) fn fault(&self, address: IpAddr) -> Option<&'static str> {
        let address = address.to_canonical();
        if self.0.iter().any(|net| net.contains(&address)) {
            return None;
        }
        match address {
            IpAddr::V4(v4) => fault_v4(v4),
            IpAddr::V6(v6) => fault_v6(v6),
        }
    }
}

fn fault_v4(address: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = address.octets();
    Some(match (a, b, c) {
        (127, ..) => "it is this machine (loopback)",
        (0, ..) => "it is this network",
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => "it is private (RFC 1918)",
        (100, 64..=127, _) => "it is shared by a provider's customers (RFC 6598)",
        (169, 254, _) => "it is link-local: cloud machines have their metadata there",
        (192, 0, 0) | (198, 18..=19, _) => "it is for protocols and measurements",
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => "it is for documentation",
        (192, 88, 99) => "it leads to relays of IPv6",
        (224..=239, ..) => "it is multicast",
        (240.., ..) => "it is reserved",
        _ => return None,
    })
}

fn fault_v6(address: Ipv6Addr) -> Option<&'static str> {
    let s = address.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        fault_v4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        _ if address.is_loopback() => Some("it is this machine (loopback)"),
        _ if address.is_unspecified() => Some("it is no address"),
        _ if s[0] & 0xffc0 == 0xfe80 => Some("it is link-local"),
        _ if s[0] & 0xfe00 == 0xfc00 => Some("it is private (RFC 4193)"),
        _ if s[0] & 0xe000 != 0x2000 => Some("it is no public address"),
        [0x2002, ..] | [0x2001, 0, ..] => Some("it carries another address (6to4, Teredo)"),
        [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Some("it is for documentation"),
        [0x2001, 0x0002..=0x01ff, ..] => Some("it is for protocols"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(address: &str) -> Option<&'static str> {
        Networks::default().fault(address.parse().unwrap())
    }

    #[test]
    fn what_is_public_and_what_is_not() {
        for public in [
            "1.1.1.1",
            "93.184.216.34",
            "172.15.255.255",
            "172.32.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "192.167.1.1",
            "198.17.255.255",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450:4001::200e",
            "2001:4860:4860::8888",
            "64:ff9b::101:101",
            "::ffff:1.1.1.1",
        ] {
            assert_eq!(fault(public), None, "{public}");
        }
        for refused in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.254",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "169.254.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(fault(refused).is_some(), "{refused}");
        }
    }

    #[test]
    fn an_operator_opens_networks() {
        let open = Networks::parse(&["127.0.0.0/8".into(), "fd00::1".into()]).unwrap();
        let fault = |address: &str| open.fault(address.parse().unwrap());
        assert_eq!(fault("127.0.0.1"), None);
        assert_eq!(fault("::ffff:127.0.0.1"), None);
        assert_eq!(fault("fd00::1"), None);
        assert!(fault("fd00::2").is_some() && fault("10.0.0.1").is_some());
        let Err(why) = Networks::parse(&["10.0.0.0/40".into()]) else {
            panic!("there is no such network");
        };
        assert!(why.contains("10.0.0.0/40"), "{why}");
    }
}

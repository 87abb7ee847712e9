//! The host that headers are for: what a pattern in the API cannot say of it.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether `text` is a host, with a port or without.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(text: &str) -> Result<(), &'static str> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or("lacks a ]")?;
        if address.parse::<Ipv6Addr>().is_err() {
            return Err("is no IPv6 address");
        }
        (None, port)
    } else {
        let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
        (Some(host), port)
    };
    if let Some(port) = port.strip_prefix(':') {
        // No sign, which a number may have and a port may not.
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        if !digits || port.parse::<u16>().map_or(true, |port| port == 0) {
            return Err("has no port from 1 to 65535 after its colon");
        }
    } else if !port.is_empty() {
        return Err("has something after its address that is no port");
    }
    host.map_or(Ok(()), name)
}

fn name(host: &str) -> Result<(), &'static str> {
    let below = host.strip_prefix("*.").unwrap_or(host);
    if below.len() > 253 {
        return Err("is longer than the 253 characters of a name");
    }
    let fits = |label: &str| {
        let inner = label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-');
        (1..=63).contains(&label.len()) && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    if !below.split('.').all(fits) {
        return Err("is no name of a host");
    }
    let last = below.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit())
        && (below != host || below.parse::<Ipv4Addr>().is_err())
    {
        return Err("ends with a number and is no IPv4 address");
    }
    Ok(())
}

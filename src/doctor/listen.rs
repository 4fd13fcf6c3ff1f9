//! The listener's address: free, or this runner's already. Nothing is bound: the kernel lists who listens.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::{Check, CheckName, Here, ask, to_ask};

/// In the tables of `proc_pid_net(5)`.
const LISTENS: &str = "0A";
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn check(here: &Here<'_>) -> Check {
    let name = CheckName::Listen;
    let listen = here.settings.options.listen;
    let table = |file| fs::read_to_string(file).unwrap_or_default();
    let tables = table("/proc/net/tcp") + &table("/proc/net/tcp6");
    let taken = listeners(&tables).find(|there| in_the_way(listen, *there));
    let Some(there) = taken else {
        return Check::ok(name, format!("{listen} is free"));
    };
    match ask(to_ask(there), PATIENCE) {
        Ok(()) => Check::ok(name, format!("{listen}: a runner serves there already, and is healthy")),
        Err(unhealthy) => Check::fail(
            name,
            format!("{listen} is taken by {there}, and no healthy runner's: {unhealthy}"),
            "end what listens there, or name another address with RUNNER_LISTEN",
        ),
    }
}

/// The addresses that are listened on.
fn listeners(tables: &str) -> impl Iterator<Item = SocketAddr> {
    tables.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, _remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        (state == LISTENS).then(|| address(local)).flatten()
    })
}

/// An address as `0100007F:22B8`: words of 32 bits as they lie in memory, and a port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let words: Vec<&str> = ip
        .as_bytes()
        .chunks(8)
        .filter_map(|w| std::str::from_utf8(w).ok())
        .collect();
    let words: Result<Vec<u32>, _> = words.into_iter().map(|word| u32::from_str_radix(word, 16)).collect();
    let bytes: Vec<u8> = words.ok()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ip = match <[u8; 4]>::try_from(&bytes[..]) {
        Ok(v4) => IpAddr::from(Ipv4Addr::from(v4)),
        Err(_) => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[..]).ok()?)),
    };
    Some(SocketAddr::new(ip.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

/// Whether a listener there keeps another from here. One on every address of version 6 has those of version 4 too.
fn in_the_way(here: SocketAddr, there: SocketAddr) -> bool {
    let covers = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    here.port() == there.port()
        && here.port() != 0
        && (here.ip() == there.ip() || covers(here.ip(), there.ip()) || covers(there.ip(), here.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_read_from_the_kernels_tables() {
        if cfg!(target_endian = "big") {
            return;
        }
        let tables = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:22B8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:1F90 0100007F:22B8 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 0 0
   1: 00000000000000000000000001000000:0051 00000000000000000000000000000000:0000 0A 0 0
   2: 0000000000000000FFFF00000100007F:0052 00000000000000000000000000000000:0000 0A 0 0
";
        let found: Vec<String> = listeners(tables).map(|address| address.to_string()).collect();
        assert_eq!(found, ["127.0.0.1:8888", "[::]:80", "[::1]:81", "127.0.0.1:82"]);
    }

    #[test]
    fn one_listener_is_in_anothers_way_where_the_kernel_says_so() {
        for (here, there, is) in [
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "0.0.0.0:1", true),
            ("127.0.0.1:1", "[::]:1", true),
            ("[::]:1", "10.0.0.1:1", true),
            ("0.0.0.0:1", "[::]:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            assert_eq!(
                in_the_way(here.parse().unwrap(), there.parse().unwrap()),
                is,
                "{here} {there}"
            );
        }
    }
}

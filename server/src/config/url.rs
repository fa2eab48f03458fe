//! Listen and advertise URLs, read as strictly as etcd does.
//!
//! Invariant: a listen address names an IP address, `localhost` or a socket path; a domain name is
//! refused, because what it resolves to may change under a running member.

use std::{fmt, net::IpAddr, net::Ipv4Addr, net::SocketAddr, path::PathBuf};

use super::ConfigError;

/// Where a listener is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket at this path.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => write!(f, "{address}"),
            ListenAddress::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The URLs of a comma list; none for an empty text.
pub fn split(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect()
}

/// Checks a comma list of URLs to be bound.
pub fn check_listen(flag: &str, list: &str) -> Result<Vec<ListenAddress>, ConfigError> {
    split(list).iter().map(|url| check_listen_one(flag, url)).collect()
}

fn check_listen_one(flag: &str, url: &str) -> Result<ListenAddress, ConfigError> {
    let (scheme, rest) = check_scheme(flag, url)?;
    if scheme == "unix" {
        return Ok(ListenAddress::Unix(PathBuf::from(rest)));
    }
    let (host, port) = check_host_port(flag, url, rest)?;
    let ip = if host == "localhost" {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else {
        host.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| {
            ConfigError::Invalid(format!("expected IP in URL for binding ({url}) of --{flag}"))
        })?
    };
    Ok(ListenAddress::Tcp(SocketAddr::new(ip, port)))
}

/// Checks a comma list of URLs that are told to others.
pub fn check_advertised(flag: &str, list: &str) -> Result<Vec<String>, ConfigError> {
    let urls = split(list);
    for url in &urls {
        let (scheme, rest) = check_scheme(flag, url)?;
        if scheme != "unix" {
            check_host_port(flag, url, rest)?;
        }
    }
    Ok(urls)
}

/// The URLs of `listened` that somebody who knows the client URLs can dial: what is bound on every
/// address is told by the clients' host, and a loopback address only if theirs is one as well.
pub fn told_of(listened: &[ListenAddress], client_urls: &[String]) -> Vec<String> {
    let client_host = client_urls.iter().find_map(|url| {
        let (host, _port) = url.strip_prefix("http://")?.rsplit_once(':')?;
        Some(host)
    });
    let is_client_local = client_host.is_none_or(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    });
    let told = listened.iter().filter_map(|address| match address {
        // Nobody knows a port that the kernel chooses; a path means nothing elsewhere.
        ListenAddress::Unix(_) => None,
        ListenAddress::Tcp(address) if address.port() == 0 => None,
        ListenAddress::Tcp(address) if address.ip().is_unspecified() => {
            client_host.map(|host| format!("http://{host}:{}", address.port()))
        }
        ListenAddress::Tcp(address) if address.ip().is_loopback() && !is_client_local => None,
        ListenAddress::Tcp(address) => Some(format!("http://{address}")),
    });
    told.collect()
}

fn check_scheme<'a>(flag: &str, url: &'a str) -> Result<(&'a str, &'a str), ConfigError> {
    let invalid = |reason: &str| {
        ConfigError::Invalid(format!("invalid value {url:?} for flag --{flag}: {reason}"))
    };
    let (scheme, rest) = url
        .split_once("://")
        .ok_or_else(|| invalid("URL scheme must be http, https, unix, or unixs"))?;
    match scheme {
        "http" | "unix" if rest.is_empty() => Err(invalid("missing host in address")),
        "http" | "unix" => Ok((scheme, rest)),
        "https" | "unixs" => Err(ConfigError::refused(flag, url)),
        _ => Err(invalid("URL scheme must be http, https, unix, or unixs")),
    }
}

fn check_host_port<'a>(
    flag: &str,
    url: &str,
    rest: &'a str,
) -> Result<(&'a str, u16), ConfigError> {
    let invalid = |reason: &str| {
        ConfigError::Invalid(format!("invalid value {url:?} for flag --{flag}: {reason}"))
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('/') {
        return Err(invalid("URL must not contain a path"));
    }
    let (host, port) = rest
        .rsplit_once(':')
        .ok_or_else(|| invalid("URL address does not have the form \"host:port\""))?;
    let port = port.parse().map_err(|_| invalid("the port is not a number up to 65535"))?;
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str) -> Result<Vec<ListenAddress>, String> {
        check_listen("listen-client-urls", list).map_err(|error| error.to_string())
    }

    #[test]
    fn ip_addresses_localhost_and_socket_paths_are_bound() {
        let addresses =
            check("http://localhost:2379,http://[::1]:1,http://0.0.0.0:2,unix:///run/x").unwrap();
        let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["127.0.0.1:2379", "[::1]:1", "0.0.0.0:2", "/run/x"]);
        assert_eq!(check("").unwrap(), []);
    }

    #[test]
    fn what_is_not_an_address_is_refused_by_name() {
        for (url, part) in [
            ("http://example.com:2379", "expected IP in URL for binding"),
            ("https://127.0.0.1:2379", "TLS"),
            ("unixs://x", "TLS"),
            ("ftp://127.0.0.1:2379", "URL scheme"),
            ("127.0.0.1:2379", "URL scheme"),
            ("http://127.0.0.1", "host:port"),
            ("http://127.0.0.1:99999", "the port"),
            ("http://127.0.0.1:1/path", "path"),
            ("http://", "missing host"),
        ] {
            let error = check(url).unwrap_err();
            assert!(error.contains(part), "{url}: {error}");
        }
    }

    #[test]
    fn what_others_cannot_dial_is_not_told() {
        let told = |listened: &str, client: &str| {
            let clients = check_advertised("advertise-client-urls", client).unwrap();
            told_of(&check(listened).unwrap(), &clients).join(",")
        };
        let local = "http://127.0.0.1:2378";
        assert_eq!(told(local, "http://localhost:2379"), local);
        assert_eq!(told(local, "http://[::1]:2379"), local);
        assert_eq!(told(local, ""), local);
        assert_eq!(told(local, "http://a.example:2379"), "");
        assert_eq!(told(local, "http://10.0.0.1:2379"), "");
        let any = "http://0.0.0.0:1,http://[::]:2";
        assert_eq!(told(any, "unix://x,http://a.b:2379"), "http://a.b:1,http://a.b:2");
        assert_eq!(told(any, "http://[fd00::1]:3"), "http://[fd00::1]:1,http://[fd00::1]:2");
        assert_eq!(told(any, ""), "");
        assert_eq!(told("http://10.0.0.1:1", "http://a.b:2379"), "http://10.0.0.1:1");
        assert_eq!(told("unix:///run/x,http://127.0.0.1:0", "http://127.0.0.1:2379"), "");
    }

    #[test]
    fn names_may_be_advertised() {
        let urls = check_advertised("advertise-client-urls", "http://a.example:1,unix://x");
        assert_eq!(urls.unwrap(), ["http://a.example:1", "unix://x"]);
    }
}

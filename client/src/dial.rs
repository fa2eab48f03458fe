//! Opens a connection: TCP, then hello.

use crate::error::Error;
use net::wire::{ClientHello, ClientSession, Message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Port of the binary protocol.
const PORT_DEFAULT: u16 = 2378;

/// `host:port` of an endpoint as users write it.
pub(crate) fn check_endpoint(endpoint: &str) -> Result<String, Error> {
    let invalid = || Error::InvalidEndpoint { endpoint: endpoint.to_owned() };
    let address = match endpoint.split_once("://") {
        None => endpoint,
        Some(("http" | "tcp", rest)) => rest,
        Some(_) => return Err(invalid()),
    };
    let address = address.strip_suffix('/').unwrap_or(address);
    if address.is_empty() || address.contains(['/', ' ', '@']) {
        return Err(invalid());
    }
    let after_bracket = address.rsplit(']').next().unwrap_or(address);
    match after_bracket.rsplit_once(':') {
        None => Ok(format!("{address}:{PORT_DEFAULT}")),
        Some((_, port)) if port.parse::<u16>().is_ok() => Ok(address.to_owned()),
        Some(_) => Err(invalid()),
    }
}

/// Connects and says hello. The session is open; whoever calls bounds the time.
pub(crate) async fn dial(
    address: &str,
    client_name: &str,
) -> Result<(TcpStream, ClientSession), Error> {
    let unreachable =
        |reason: String| Error::Unreachable { reason: format!("{address}: {reason}") };
    let broken = |error: std::io::Error| unreachable(error.to_string());
    let mut socket = TcpStream::connect(address).await.map_err(broken)?;
    socket.set_nodelay(true).map_err(broken)?;
    let hello = ClientHello { client: client_name, ..ClientHello::default() };
    let mut session = ClientSession::new(&hello);
    socket.write_all(&session.take_output(Vec::new())).await.map_err(broken)?;
    let mut buffer = [0; 4096];
    while session.server().is_none() {
        let size = socket.read(&mut buffer).await.map_err(broken)?;
        if size == 0 {
            return Err(unreachable("closed during hello".to_owned()));
        }
        let mut refusal = None;
        session
            .feed(&buffer[..size], &mut |message| match message {
                Message::Error { message, .. } | Message::GoAway { message, .. } => {
                    refusal = Some(message.to_owned());
                }
                // A hint to move that comes this early is no reason to use what just opened less.
                _ => {}
            })
            .map_err(|malformed| unreachable(malformed.to_string()))?;
        if let Some(message) = refusal {
            return Err(unreachable(message));
        }
    }
    Ok((socket, session))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_hosts_with_or_without_port_and_scheme() {
        let check = |endpoint: &str| check_endpoint(endpoint).ok();
        assert_eq!(check("a:1").as_deref(), Some("a:1"));
        assert_eq!(check("http://a:1/").as_deref(), Some("a:1"));
        assert_eq!(check("a").as_deref(), Some("a:2378"));
        assert_eq!(check("[::1]").as_deref(), Some("[::1]:2378"));
        assert_eq!(check("[::1]:9").as_deref(), Some("[::1]:9"));
        for endpoint in ["", "http://", "https://a:1", "a:b", "a:70000", "a:1/path", "u@a:1"] {
            assert_eq!(check(endpoint), None, "{endpoint}");
        }
    }
}

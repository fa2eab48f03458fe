//! One request over HTTP/1.1, written by hand: what a shell script or a client in another language
//! sends.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::print::{Frame, version, without_ports};

/// Asks `METHOD /path [body]` and answers the status, the content type and the body on one line,
/// with ids, terms and revisions as in other answers.
pub async fn ask(url: &str, request: &str, frame: &Frame) -> String {
    let address = url.strip_prefix("http://").unwrap();
    let mut parts = request.splitn(3, ' ');
    let (method, path) = (parts.next().unwrap(), parts.next().unwrap());
    let body = parts.next().unwrap_or("");
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let mut lines = head.lines();
    let status = lines.next().unwrap_or("").split(' ').nth(1).unwrap_or("nothing");
    let header = |wanted: &str| {
        head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
        })
    };
    let is_chunked = header("transfer-encoding").is_some_and(|coding| coding == "chunked");
    let body = if is_chunked { unchunked(body) } else { body.to_owned() };
    let kind = header("content-type").unwrap_or_default();
    format!("{status} {kind} {}", normalised(body.trim_end(), frame)).trim_end().to_owned()
}

/// The pieces of a chunked body put together.
fn unchunked(body: &str) -> String {
    let mut whole = String::new();
    let mut rest = body;
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        whole.push_str(after.get(..size).unwrap_or(after));
        rest = after.get(size + 2..).unwrap_or("");
    }
    whole
}

fn normalised(body: &str, frame: &Frame) -> String {
    // Go's encoder writes a space after a comma or none, by a whim of the build.
    let mut text = without_ports(body)
        .replace(", \"", ",\"")
        .replace(", {", ",{")
        .replace(&frame.cluster_id.to_string(), "CLUSTER")
        .replace(&frame.member_id.to_string(), "MEMBER");
    let told = |number: &str| format!("{:+}", number.parse().unwrap_or(-1) - frame.base_revision);
    for label in ["revision", "create_revision", "mod_revision"] {
        text = replaced(&text, label, told);
    }
    if text.contains("grantedTTL") {
        // What is left of it.
        text = replaced(&text, "TTL", |_| "some".to_owned());
    }
    for label in ["etcdserver", "etcdcluster", "storage"] {
        text = replaced(&text, label, version);
    }
    replaced(&text, "raft_term", |_| "some".to_owned()).replace('\n', "\\n")
}

/// Every value of the field `name`, which is a string, told by `tell`.
fn replaced(text: &str, name: &str, tell: impl Fn(&str) -> String) -> String {
    let label = format!("\"{name}\":\"");
    let mut parts = text.split(&label);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (value, rest) = part.split_once('"').unwrap_or((part, ""));
        out.push_str(&format!("{label}{}\"{rest}", tell(value)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_numbers_told_from_the_base() {
        assert_eq!(unchunked("3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"), "abc0123456789");
        let frame = Frame { cluster_id: 11, member_id: 22, base_revision: 5, ..Frame::default() };
        let body =
            r#"{"cluster_id":"11","revision":"7","raft_term":"3","kvs":[{"mod_revision":"6"}]}"#;
        let told = r#"{"cluster_id":"CLUSTER","revision":"+2","raft_term":"some","kvs":[{"mod_revision":"+1"}]}"#;
        assert_eq!(normalised(body, &frame), told);
    }
}

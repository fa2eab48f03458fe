//! Who belongs to the cluster, asked at a peer port as a member that is about to join does.
//!
//! A member without a quorum lets no client in, but tells this: an operator that was not answered
//! whom its addition made finds out here.
//! Invariant: an answer that is not whole, to the byte, says nothing.
//! Source: etcd, GET /members at a peer URL; RFC 9112 sections 3 and 6.

use net::wire::ClusterMember;

/// The question.
pub const QUESTION: &[u8] = b"GET /members HTTP/1.1\r\nHost: member\r\nConnection: close\r\n\r\n";

/// The members that an answer lists; `None` while it is not whole.
pub fn members_of(answer: &[u8]) -> Option<Vec<ClusterMember>> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    if !head.starts_with("HTTP/1.1 200") || body.len() != content_length(head)? {
        return None;
    }
    body.split("{\"id\":").skip(1).map(member_of).collect()
}

fn content_length(head: &str) -> Option<usize> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next()?.1.trim().parse().ok()
}

/// One member, from behind the name of its first field.
fn member_of(json: &str) -> Option<ClusterMember> {
    let (id, _) = json.split_once(',')?;
    let (_, urls) = json.split_once("\"peerURLs\":[\"")?;
    let (url, _) = urls.split_once('"')?;
    Some(ClusterMember {
        id: id.parse().ok()?,
        name: String::new(),
        peer_urls: vec![url.to_string()],
        client_urls: Vec::new(),
        binary_urls: Vec::new(),
        is_learner: json.contains("\"isLearner\":true"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_are_read_and_others_are_not() {
        let body = "[{\"id\":256,\"peerURLs\":[\"http://m0:2380\"],\"name\":\"m0\"},\
                    {\"id\":9,\"peerURLs\":[\"http://m1:2380\"],\"isLearner\":true}]\n";
        let size = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n{body}");
        let members = members_of(answer.as_bytes()).expect("it is whole");
        let told: Vec<_> = members.iter().map(|one| (one.id, one.is_learner)).collect();
        assert_eq!(told, [(256, false), (9, true)]);
        assert_eq!(members[1].peer_urls, ["http://m1:2380"]);
        for cut in 0..answer.len() {
            assert_eq!(members_of(&answer.as_bytes()[..cut]), None, "{cut}");
        }
        let refused = answer.replace("200 OK", "404 Not Found");
        assert_eq!(members_of(refused.as_bytes()), None);
    }
}

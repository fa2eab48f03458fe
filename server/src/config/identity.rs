//! Member and cluster ids, computed as etcd computes them, so that tools see the same numbers.
//!
//! Source: fact sheet of etcd's semantics, section on membership.

use sha1::{Digest, Sha1};

/// Id of a member of the first cluster: from its peer URLs, sorted, and the cluster's token.
pub fn member_id(peer_urls: &[String], cluster_token: &str) -> u64 {
    let mut urls = peer_urls.to_vec();
    urls.sort();
    let mut hash = Sha1::new();
    for url in &urls {
        hash.update(url.as_bytes());
    }
    hash.update(cluster_token.as_bytes());
    first_eight(&hash.finalize())
}

/// Id of the cluster: from the ids of its first members, ascending.
pub fn cluster_id(member_ids: &[u64]) -> u64 {
    let mut ids = member_ids.to_vec();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    for id in ids {
        hash.update(id.to_be_bytes());
    }
    first_eight(&hash.finalize())
}

fn first_eight(digest: &[u8]) -> u64 {
    let bytes: [u8; 8] = digest[..8].try_into().expect("a SHA-1 digest has 20 bytes");
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_a_default_member_are_etcds() {
        // `etcd` without flags prints these two in its first log lines.
        let member = member_id(&["http://localhost:2380".to_owned()], "etcd-cluster");
        assert_eq!(format!("{member:x}"), "8e9e05c52164694d");
        assert_eq!(format!("{:x}", cluster_id(&[member])), "cdf818194e3a8c32");
    }

    #[test]
    fn the_order_of_urls_and_members_is_immaterial() {
        let (a, b) = ("http://a:1".to_owned(), "http://b:1".to_owned());
        assert_eq!(member_id(&[a.clone(), b.clone()], "t"), member_id(&[b, a], "t"));
        assert_eq!(cluster_id(&[3, 1, 2]), cluster_id(&[1, 2, 3]));
    }
}

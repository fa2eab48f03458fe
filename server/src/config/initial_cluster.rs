//! `--initial-cluster`: the members a cluster begins with, or those it has when one joins it.
//!
//! It counts for a member's birth alone: once a data directory has its identity the flag is not
//! even read. Invariant: a name stands once, its URLs ascending; no URL belongs to two members of a
//! cluster that was checked.
//! Source: fact sheet of etcd's command line, start-up checks; the texts are those of etcd 3.7.

use std::{collections::BTreeMap, fmt, net::ToSocketAddrs};

use shard::config::InitialMember;

use super::{ConfigError, member_id};

/// The members by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitialCluster {
    members: BTreeMap<String, Vec<String>>,
}

impl InitialCluster {
    /// Reads `name=url,name=url`; a name may stand several times, once for each of its URLs.
    pub fn parse(text: &str) -> Result<InitialCluster, ConfigError> {
        let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
            check_url(url.trim())?;
            members.entry(name.to_owned()).or_default().push(url.trim().to_owned());
        }
        members.values_mut().for_each(|urls| urls.sort());
        Ok(InitialCluster { members })
    }

    /// The cluster of one member, for which nothing was named.
    pub fn of_one(name: &str, peer_urls: &[String]) -> InitialCluster {
        let mut urls = peer_urls.to_vec();
        urls.sort();
        InitialCluster { members: BTreeMap::from([(name.to_owned(), urls)]) }
    }

    /// Checks it for a member that founds a cluster with the others.
    pub fn check_founding(&self, name: &str, advertised: &[String]) -> Result<(), ConfigError> {
        let own = self.urls_of(name)?;
        check_advertised(name, own, advertised)?;
        self.check_duplicates()
    }

    /// Checks it for a member that joins. Its own URLs are known to the cluster already, so they
    /// are not compared with the other flag here.
    pub fn check_joining(&self, name: &str) -> Result<(), ConfigError> {
        self.urls_of(name)?;
        self.check_duplicates()
    }

    fn urls_of(&self, name: &str) -> Result<&[String], ConfigError> {
        self.members.get(name).map(Vec::as_slice).ok_or_else(|| {
            ConfigError::Invalid(format!(
                "couldn't find local name {name:?} in the initial cluster configuration"
            ))
        })
    }

    fn check_duplicates(&self) -> Result<(), ConfigError> {
        let mut urls: Vec<&String> = self.members.values().flatten().collect();
        urls.sort();
        if urls.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(ConfigError::Invalid(format!("initial cluster {self} has duplicate url")));
        }
        Ok(())
    }

    /// The founders with their ids, ascending by id.
    pub fn founders(&self, cluster_token: &str) -> Vec<InitialMember> {
        let mut founders: Vec<_> = self
            .members
            .iter()
            .map(|(name, urls)| InitialMember {
                id: member_id(urls, cluster_token),
                name: name.clone(),
                peer_urls: urls.clone(),
            })
            .collect();
        founders.sort_by_key(|member| member.id);
        founders
    }

    /// Names and URLs.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.members.iter().map(|(name, urls)| (name.as_str(), urls.as_slice()))
    }

    /// How many members there are.
    pub fn count(&self) -> usize {
        self.members.len()
    }
}

impl fmt::Display for InitialCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs =
            self.members.iter().flat_map(|(name, urls)| urls.iter().map(move |u| (name, u)));
        for (n, (name, url)) in pairs.enumerate() {
            let comma = if n == 0 { "" } else { "," };
            write!(f, "{comma}{name}={url}")?;
        }
        Ok(())
    }
}

fn check_url(url: &str) -> Result<(), ConfigError> {
    let invalid = |reason: &str| {
        ConfigError::Invalid(format!("error setting up initial cluster: {reason}: {url}"))
    };
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest,
        Some(("unix", path)) if !path.is_empty() => return Ok(()),
        Some(("https" | "unixs", _)) => return Err(ConfigError::refused("initial-cluster", url)),
        _ => return Err(invalid("URL scheme must be http, https, unix, or unixs")),
    };
    if rest.contains('/') {
        return Err(invalid("URL must not contain a path"));
    }
    let port = rest.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none() {
        return Err(invalid("URL address does not have the form \"host:port\""));
    }
    Ok(())
}

/// The URLs a member is to be found at must be those that the others will look for it at.
fn check_advertised(name: &str, own: &[String], advertised: &[String]) -> Result<(), ConfigError> {
    let mut told = advertised.to_vec();
    told.sort();
    let Err(reason) = check_same_urls(&told, own) else { return Ok(()) };
    let named = |url: &String| format!("{name}={url}");
    let untold: Vec<_> = own.iter().filter(|url| !told.contains(url)).map(named).collect();
    if !untold.is_empty() {
        return Err(ConfigError::Invalid(format!(
            "--initial-cluster has {} but missing from --initial-advertise-peer-urls={} ({reason})",
            untold.join(","),
            told.join(","),
        )));
    }
    let unnamed: Vec<_> = told.iter().filter(|url| !own.contains(url)).cloned().collect();
    Err(ConfigError::Invalid(format!(
        "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
        unnamed.join(","),
        own.iter().map(named).collect::<Vec<_>>().join(","),
    )))
}

/// Compares two ascending lists of URLs, by what their hosts resolve to where the texts differ.
pub fn check_same_urls(one: &[String], other: &[String]) -> Result<(), String> {
    if one.len() != other.len() {
        return Err(format!("len({}) != len({})", go_list(one), go_list(other)));
    }
    if one == other {
        return Ok(());
    }
    let resolve = |urls: &[String]| {
        let mut resolved: Vec<_> = urls.iter().map(|url| resolved(url)).collect();
        resolved.sort();
        resolved
    };
    let (one, other) = (resolve(one), resolve(other));
    match one.iter().zip(&other).find(|(one, other)| one != other) {
        Some((one, other)) => Err(format!("resolved urls: {one:?} != {other:?}")),
        None => Ok(()),
    }
}

/// A list of texts as Go prints it.
fn go_list(urls: &[String]) -> String {
    let quoted: Vec<_> = urls.iter().map(|url| format!("{url:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

/// The URL with its host's address; as it is where there is none. `localhost` stays: it is the
/// same for nobody else.
fn resolved(url: &str) -> String {
    let Some(address) = url.strip_prefix("http://") else { return url.to_owned() };
    if address.starts_with("localhost:") {
        return url.to_owned();
    }
    let found = address.to_socket_addrs().ok().and_then(|mut all| all.next());
    found.map_or_else(|| url.to_owned(), |found| format!("http://{found}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn founding(cluster: &str, advertised: &str) -> Result<Vec<InitialMember>, String> {
        let check = || {
            let cluster = InitialCluster::parse(cluster)?;
            cluster.check_founding("a", &super::super::url::split(advertised))?;
            Ok(cluster.founders("etcd-cluster"))
        };
        check().map_err(|error: ConfigError| error.to_string())
    }

    const A: &str = "http://127.0.0.1:33380";

    #[test]
    fn founders_are_ascending_by_the_ids_that_etcd_gives_them() {
        let text = "b=http://127.0.0.1:33390,a=http://127.0.0.1:33380";
        let founders = founding(text, A).unwrap();
        let ids: Vec<_> = founders.iter().map(|m| (format!("{:x}", m.id), &m.name[..])).collect();
        // As `etcd` logs them for these flags.
        assert_eq!(
            ids,
            [("5c76a90ae78bcee7".to_owned(), "a"), ("822d9a7f5cf739ec".to_owned(), "b")]
        );
        let ids: Vec<_> = founders.iter().map(|member| member.id).collect();
        assert_eq!(format!("{:x}", super::super::cluster_id(&ids)), "b401f7687752fbdf");
    }

    #[test]
    fn what_etcd_refuses_is_refused_with_its_texts() {
        let text_of = |cluster: &str| founding(cluster, A).expect_err(cluster);
        for (cluster, text) in [
            (
                "b=http://127.0.0.1:33380",
                "couldn't find local name \"a\" in the initial cluster configuration",
            ),
            (
                "a=http://127.0.0.1:33381",
                "--initial-cluster has a=http://127.0.0.1:33381 but missing from \
                 --initial-advertise-peer-urls=http://127.0.0.1:33380 (resolved urls: \
                 \"http://127.0.0.1:33380\" != \"http://127.0.0.1:33381\")",
            ),
            (
                "a=http://127.0.0.1:33380,a=http://127.0.0.1:33382",
                "--initial-cluster has a=http://127.0.0.1:33382 but missing from \
                 --initial-advertise-peer-urls=http://127.0.0.1:33380 \
                 (len([\"http://127.0.0.1:33380\"]) != len([\"http://127.0.0.1:33380\" \
                 \"http://127.0.0.1:33382\"]))",
            ),
            (
                "a=http://localhost:33380",
                "--initial-cluster has a=http://localhost:33380 but missing from \
                 --initial-advertise-peer-urls=http://127.0.0.1:33380 (resolved urls: \
                 \"http://127.0.0.1:33380\" != \"http://localhost:33380\")",
            ),
            (
                "b=http://127.0.0.1:33380,a=http://127.0.0.1:33380",
                "initial cluster a=http://127.0.0.1:33380,b=http://127.0.0.1:33380 has duplicate \
                 url",
            ),
            (
                "a=http://127.0.0.1:33380,b",
                "error setting up initial cluster: URL scheme must be http, https, unix, or \
                 unixs: ",
            ),
            (
                "a=http://127.0.0.1:33380,b=foo",
                "error setting up initial cluster: URL scheme must be http, https, unix, or \
                 unixs: foo",
            ),
            (
                "a=http://127.0.0.1:33380,b=http://x",
                "error setting up initial cluster: URL address does not have the form \
                 \"host:port\": http://x",
            ),
            (
                "a=http://127.0.0.1:33380/",
                "error setting up initial cluster: URL must not contain a path: \
                 http://127.0.0.1:33380/",
            ),
        ] {
            assert_eq!(text_of(cluster), text);
        }
        assert!(text_of("a=https://127.0.0.1:33380").contains("TLS"));
        let two = "http://127.0.0.1:33380,http://127.0.0.1:33381";
        let text = founding("a=http://127.0.0.1:33380", two).unwrap_err();
        assert!(text.contains("missing from --initial-cluster=a=http://127.0.0.1:33380"), "{text}");
    }

    #[test]
    fn a_name_may_have_several_urls_in_any_order() {
        let text = "a=http://127.0.0.1:2,b=http://10.0.0.1:1,a=http://127.0.0.1:1";
        let founders = founding(text, "http://127.0.0.1:1,http://127.0.0.1:2").unwrap();
        assert_eq!(founders.len(), 2);
        let cluster = InitialCluster::parse(text).unwrap();
        assert_eq!(
            cluster.to_string(),
            "a=http://127.0.0.1:1,a=http://127.0.0.1:2,b=http://10.0.0.1:1"
        );
    }

    #[test]
    fn one_that_joins_may_advertise_what_it_was_added_with() {
        let cluster = InitialCluster::parse("a=http://127.0.0.1:1,b=http://127.0.0.1:2").unwrap();
        cluster.check_joining("b").unwrap();
        assert!(cluster.check_joining("c").unwrap_err().to_string().contains("\"c\""));
    }
}

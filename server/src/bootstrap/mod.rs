//! A member's birth: from the flags, and from what the other members say, to its identity.
//!
//! Runs before anything else of the member does, and may wait: for the others, for a bounded time.
//! Invariants: a founder gets the ids that every other founder computes from the same flags; one
//! that joins gets the id which its cluster gave it, and none when the flags and the cluster do not
//! name the same members; a member that lives is never born twice where the others can tell.
//! Source: fact sheet of etcd's command line, start-up checks, and of its semantics, Membership;
//! the texts are those of etcd 3.7.

pub mod members;

use std::time::{Duration, Instant};

use crate::{
    config::{ClusterState, Settings, cluster_id, initial_cluster::InitialCluster},
    data_directory::draw_random,
    error::StartError,
    identity::{Birth, FORMAT_VERSION, Identity, KnownMember},
    log::{Logger, quoted},
};
use members::{RemoteCluster, fetch};

/// Makes the identity of a new member.
pub fn birth(settings: &Settings, cores: u16, logger: &Logger) -> Result<Identity, StartError> {
    let cluster = settings.initial_cluster()?;
    let (cluster_id, member_id, birth) = match settings.cluster_state {
        ClusterState::New => found(settings, &cluster)?,
        ClusterState::Existing => join(settings, &cluster, JOIN_WAIT_MAX, logger)?,
    };
    let birth_id =
        draw_random().map_err(|error| StartError::System { what: "read /dev/urandom", error })?;
    let name = settings.name.clone();
    let (format_version, epoch, birth) = (FORMAT_VERSION, 0, Some(birth));
    Ok(Identity { format_version, birth_id, cluster_id, member_id, name, cores, epoch, birth })
}

/// Ids of cluster and member, and among whom it is born.
type Born = (u64, u64, Birth);

fn found(settings: &Settings, cluster: &InitialCluster) -> Result<Born, StartError> {
    cluster.check_founding(&settings.name, &settings.peer_urls)?;
    let founders = cluster.founders(&settings.cluster_token);
    let ids: Vec<_> = founders.iter().map(|member| member.id).collect();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(StartError::Bootstrap(format!("two members of {cluster} have one id")));
    }
    let own = founders.iter().find(|member| member.name == settings.name);
    let own_id = own.expect("checked to be among them").id;
    // The first that answers tells; those that are not up yet cannot know of an earlier life.
    let others = founders.iter().filter(|member| member.id != own_id);
    let remote =
        others.flat_map(|member| &member.peer_urls).find_map(|url| fetch(url, FETCH_WAIT_MAX).ok());
    let is_known = |remote: &RemoteCluster| {
        remote.members.iter().any(|member| member.id == own_id && !member.client_urls.is_empty())
    };
    if remote.as_ref().is_some_and(is_known) {
        return Err(StartError::Bootstrap(format!(
            "member {own_id:x} has already been bootstrapped: its data directory is not {}. Start \
             it with the one it had, or remove the member and add it again",
            settings.data_directory.display()
        )));
    }
    let founders = founders.into_iter().map(KnownMember::from).collect();
    Ok((cluster_id(&ids), own_id, Birth::Founder(founders)))
}

fn join(
    settings: &Settings,
    cluster: &InitialCluster,
    wait: Duration,
    logger: &Logger,
) -> Result<Born, StartError> {
    cluster.check_joining(&settings.name)?;
    let others = cluster.iter().filter(|(name, _)| *name != settings.name);
    let urls: Vec<&String> = others.flat_map(|(_, urls)| urls).collect();
    let until = Instant::now() + wait;
    let mut is_first = true;
    loop {
        let mut reason = "cannot fetch cluster info from peer urls: could not retrieve cluster \
                          information from the given URLs"
            .to_owned();
        for url in &urls {
            match fetch(url, FETCH_WAIT_MAX) {
                Ok(remote) => match match_members(&settings.name, cluster, &remote) {
                    Ok((own_id, others)) => {
                        let cluster_id = [("cluster-id", quoted(&format!("{:x}", remote.id)))];
                        logger.info("joining a cluster", &cluster_id);
                        return Ok((remote.id, own_id, Birth::Joiner(others)));
                    }
                    // Another one may have heard of more changes.
                    Err(mismatch) => reason = format!("error validating peerURLs: {mismatch}"),
                },
                Err(error) if is_first => {
                    let fields = [
                        ("address", quoted(&format!("{url}/members"))),
                        ("error", quoted(&error.to_string())),
                    ];
                    logger.warn("failed to get cluster response", &fields);
                }
                Err(_) => {}
            }
        }
        if until <= Instant::now() || urls.is_empty() {
            return Err(StartError::Bootstrap(reason));
        }
        if is_first {
            let wait_ms = ("wait-ms-max", wait.as_millis().to_string());
            logger.warn("not joined yet; trying again", &[("reason", quoted(&reason)), wait_ms]);
        }
        is_first = false;
        std::thread::sleep(FETCH_DISTANCE);
    }
}

/// Finds the ids of the named members by their URLs: the own one's, and all the others.
fn match_members(
    name: &str,
    cluster: &InitialCluster,
    remote: &RemoteCluster,
) -> Result<(u64, Vec<KnownMember>), String> {
    use crate::config::initial_cluster::check_same_urls;
    if cluster.count() != remote.members.len() {
        return Err(format!(
            "member count is unequal: --initial-cluster={cluster} names {}, the cluster has {}",
            cluster.count(),
            remote.members.len()
        ));
    }
    let mut named: Vec<_> = cluster.iter().collect();
    let (mut own_id, mut others) = (None, Vec::new());
    for member in &remote.members {
        let mut urls = member.peer_urls.clone();
        urls.sort();
        let mut reason = String::new();
        let slot = named.iter().position(|(_, stated)| {
            check_same_urls(&urls, stated).map_err(|unequal| reason = unequal).is_ok()
        });
        let Some(slot) = slot else {
            return Err(format!(
                "PeerURLs: no match found for existing member ({:x}, [{}]), last resolver error \
                 ({reason})",
                member.id,
                urls.join(" ")
            ));
        };
        let (known, _) = named.swap_remove(slot);
        if known == name {
            own_id = Some(member.id);
        } else {
            others.push(KnownMember { id: member.id, name: known.to_owned(), peer_urls: urls });
        }
    }
    others.sort_by_key(|member| member.id);
    let own_id = own_id.expect("as many as were named, and each matched another");
    Ok((own_id, others))
}

/// For one answer.
const FETCH_WAIT_MAX: Duration = Duration::from_secs(1);
/// Between two rounds over all URLs.
const FETCH_DISTANCE: Duration = Duration::from_millis(200);
/// How long one that joins asks again: a member may lag behind the change that added it, and the
/// whole cluster may be on its way up.
const JOIN_WAIT_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
#[path = "bootstrap_test.rs"]
mod tests;

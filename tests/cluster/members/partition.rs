//! A partition that nothing announces: three members, each in a network namespace of its own, and
//! frames between some of them that arrive nowhere. Needs root and `ip`.
//!
//! Frames are lost by a neighbour entry with an address that no card has: connections stay as they
//! are, and nobody is told that they are dead. The test itself reaches every member all the time.

use std::process::{Command, Stdio};
use std::time::Instant;

use ::tests::process::Cluster;

use crate::ask::{ask, assert_equal, insist, leader, without};
use crate::client::{Client, Method};
use crate::load::{Load, verify};
use crate::read::{is_set, list, number, text};
use crate::{alone, block_on, corestone, within};

const ALL: [usize; 3] = [0, 1, 2];

/// A bridge and a namespace for each member; removed when dropped.
struct Network {
    bridge: String,
    /// Of the test's processes on this machine, to tell its names from another run's.
    tag: u32,
}

impl Network {
    /// # Errors
    /// What `ip` complains of: there is no root, or no such thing here.
    fn new() -> Result<Network, String> {
        let tag = std::process::id();
        let network = Network { bridge: format!("csb{tag}"), tag };
        ip(&format!("link add {} type bridge", network.bridge))?;
        ip(&format!("addr add {}/24 dev {}", network.host(253), network.bridge))?;
        ip(&format!("link set {} up", network.bridge))?;
        for member in ALL {
            let (space, veth) = (network.namespace(member), network.veth(member));
            ip(&format!("netns add {space}"))?;
            ip(&format!("link add {veth} type veth peer name eth0 netns {space}"))?;
            ip(&format!("link set {veth} master {} up", network.bridge))?;
            let host = network.host_of(member);
            ip(&format!("-n {space} addr add {host}/24 dev eth0"))?;
            ip(&format!("-n {space} link set eth0 up"))?;
            ip(&format!("-n {space} link set lo up"))?;
        }
        Ok(network)
    }

    fn namespace(&self, member: usize) -> String {
        format!("cs{}n{member}", self.tag)
    }

    fn veth(&self, member: usize) -> String {
        format!("cs{}v{member}", self.tag)
    }

    fn host(&self, number: usize) -> String {
        format!("10.213.{}.{number}", self.tag % 250)
    }

    fn host_of(&self, member: usize) -> String {
        self.host(member + 1)
    }

    /// Nothing passes between a member and all others any more, in either direction.
    fn cut_off(&self, member: usize) {
        for other in without(&ALL, member) {
            for [from, to] in [[member, other], [other, member]] {
                let (space, host) = (self.namespace(from), self.host_of(to));
                ip(&format!(
                    "-n {space} neigh replace {host} lladdr {NOBODY} dev eth0 nud permanent"
                ))
                .unwrap();
            }
        }
    }

    /// Everything passes again.
    fn heal(&self) {
        for member in ALL {
            for other in without(&ALL, member) {
                let (space, host) = (self.namespace(member), self.host_of(other));
                // It is not there where nothing was cut.
                let _ = ip(&format!("-n {space} neigh del {host} dev eth0"));
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Removing a namespace removes its end of the pair, and with it the other one.
        for member in ALL {
            let _ = ip(&format!("netns del {}", self.namespace(member)));
            let _ = ip(&format!("link del {}", self.veth(member)));
        }
        let _ = ip(&format!("link del {}", self.bridge));
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("ip: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

/// The leader, then a follower, is cut off: it serves what is local and nothing else, its clients
/// that want a leader are told, and when the network is whole again nothing is lost.
#[test]
fn the_minority_of_a_partition_refuses_and_heals() {
    let _turn = alone();
    let network = match Network::new() {
        Ok(network) => network,
        Err(reason) => return println!("skipped: no network namespaces here: {}", reason.trim()),
    };
    let mut cluster = Cluster::unstarted(&corestone(), 3, &[]);
    for member in ALL {
        let (namespace, host) = (network.namespace(member), network.host_of(member));
        cluster.member(member).change_network(&namespace, &host);
    }
    cluster.found().unwrap();
    let urls: Vec<String> = ALL.iter().map(|&member| cluster.client_url(member)).collect();
    let load = Load::start(&urls, Vec::new());
    for (round, leads) in [true, false].into_iter().enumerate() {
        load.wait_for_new(60);
        let old = leader(&cluster, &ALL);
        let lonely = if leads { old } else { without(&ALL, old)[0] };
        insist(&urls[lonely], "KV.Put", &format!(r#"key: "p" value: "before {round}""#));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut watches = runtime.block_on(async {
            let client = Client::lazy(&urls[lonely]);
            let leaderful = vec![("hasleader".to_owned(), "true".to_owned())];
            let mut watches = Vec::new();
            for metadata in [leaderful, Vec::new()] {
                let mut watch = client.open(&Method::named("Watch.Watch"), &metadata);
                watch.send(r#"create_request { key: "p" }"#).await;
                let created = within(watch.receive()).await.unwrap().unwrap();
                assert!(is_set(&created, "created"));
                watches.push(watch);
            }
            watches
        });
        network.cut_off(lonely);
        let begin = Instant::now();
        let majority = without(&ALL, lonely);
        let after = format!(r#"key: "p" value: "after {round}""#);
        let written = insist(&urls[majority[0]], "KV.Put", &after);
        let written = number(&written, "header.revision");
        println!("cut off the leader: {leads}; the majority writes after {:?}", begin.elapsed());

        assert_refuses(&urls[lonely], &format!("before {round}"));
        // The stream that wants a leader was cut, the other one waits.
        let cut = runtime.block_on(within(watches[0].receive())).unwrap().unwrap_err();
        assert_eq!(cut.message(), "etcdserver: no leader", "{cut:?}");
        assert_eq!(cut.code(), tonic::Code::Unavailable);

        network.heal();
        let event = runtime.block_on(within(watches[1].receive())).unwrap().unwrap();
        let event = &list(&event, "events")[0];
        assert_eq!(number(event, "kv.mod_revision"), written);
        let read = insist(&urls[lonely], "KV.Range", r#"key: "p""#);
        assert_eq!(text(&list(&read, "kvs")[0], "value"), format!("after {round}"));
    }
    load.wait_for_new(60);
    let records = load.stop();
    verify(&cluster, &ALL, &records);
    assert_equal(&cluster, &ALL);
}

/// A member without a quorum: its own view for who asks for no more, etcd's errors for the rest.
fn assert_refuses(url: &str, value: &str) {
    let local = ask(url, "KV.Range", r#"key: "p" serializable: true"#).unwrap();
    assert_eq!(text(&list(&local, "kvs")[0], "value"), value);
    let [put, read, watch] = block_on(async {
        let client = Client::lazy(url);
        let leaderful = vec![("hasleader".to_owned(), "true".to_owned())];
        let mut watch = client.open(&Method::named("Watch.Watch"), &leaderful);
        let put = client.ask("KV.Put", r#"key: "q" value: "lost""#);
        let read = client.ask("KV.Range", r#"key: "q""#);
        let (put, read) = tokio::join!(within(put), within(read));
        // By now it knows that it has no leader.
        watch.send(r#"create_request { key: "p" }"#).await;
        let watch = within(watch.receive()).await.unwrap();
        [put.unwrap_err(), read.unwrap_err(), watch.unwrap_err()]
    });
    for timed_out in [put, read] {
        assert_eq!(timed_out.code(), tonic::Code::Unavailable, "{timed_out:?}");
        assert!(timed_out.message().starts_with("etcdserver: request timed out"), "{timed_out:?}");
    }
    assert_eq!(watch.message(), "etcdserver: no leader", "{watch:?}");
}

/// A locally administered address that no card here has.
const NOBODY: &str = "02:00:00:00:00:99";

//! Births among other members, which are played by threads that answer as etcd does.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread::JoinHandle,
};

use super::{members::FetchError, *};
use crate::config::{Asked, read};

/// Answers this many requests with these bytes, one connection each.
fn member(answer: String, requests: usize) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        for _ in 0..requests {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            assert!(request.starts_with(b"GET /members HTTP/1.1\r\n"));
            // In two pieces, which is what a network may do.
            let (head, tail) = answer.as_bytes().split_at(answer.len() / 2);
            stream.write_all(head).unwrap();
            stream.flush().unwrap();
            stream.write_all(tail).unwrap();
        }
    });
    (url, thread)
}

fn answer(json: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Etcd-Cluster-Id: \
         536f0188ef2075ac\r\nContent-Length: {}\r\n\r\n{json}",
        json.len()
    )
}

fn settings(flags: &[&str]) -> Settings {
    let flags: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    match read(&flags, &[]).unwrap() {
        Asked::Run(values) => Settings::check(values).unwrap(),
        other => panic!("asked for {other:?}"),
    }
}

fn logger() -> Logger {
    Logger::start("error", true, &["stderr".to_owned()]).unwrap()
}

const B: &str = "http://127.0.0.1:33390";

/// A URL at which nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn joining(cluster: &str) -> Settings {
    let cluster = format!("--initial-cluster={cluster}");
    settings(&["--name=b", &cluster, "--initial-cluster-state=existing"])
}

#[test]
fn without_flags_a_member_founds_the_cluster_it_always_did() {
    let identity = birth(&settings(&[]), 2, &logger()).unwrap();
    assert_eq!(format!("{:x}", identity.member_id), "8e9e05c52164694d");
    assert_eq!(format!("{:x}", identity.cluster_id), "cdf818194e3a8c32");
    assert_eq!((identity.epoch, identity.cores), (0, 2));
    let Some(Birth::Founder(members)) = identity.birth else { panic!("a founder") };
    assert_eq!(members.len(), 1);
    assert_eq!(members[0].name, "default");
    assert_eq!(members[0].peer_urls, ["http://localhost:2380"]);
}

#[test]
fn founders_agree_on_ids_while_nobody_answers() {
    let (a, c) = (nobody(), nobody());
    let cluster = format!("--initial-cluster=a={a},b={B},c={c}");
    let of = |name: &str, url: &str| {
        let flags = [format!("--name={name}"), format!("--initial-advertise-peer-urls={url}")];
        birth(&settings(&[&flags[0], &flags[1], &cluster]), 1, &logger()).unwrap()
    };
    let (one, other) = (of("a", &a), of("b", B));
    assert_eq!(one.cluster_id, other.cluster_id);
    assert_eq!(one.birth, other.birth);
    assert_ne!(one.member_id, other.member_id);
    assert_ne!(one.birth_id, other.birth_id, "a birth is drawn anew");
}

#[test]
fn a_founder_that_lived_before_is_not_born_again() {
    let own_id = crate::config::member_id(&[B.to_owned()], "etcd-cluster");
    for (client_urls, is_refused) in [("[\"http://127.0.0.1:1\"]", true), ("[]", false)] {
        let json = format!("[{{\"id\":{own_id},\"name\":\"b\",\"clientURLs\":{client_urls}}}]");
        let (a, thread) = member(answer(&json), 1);
        let cluster = format!("--initial-cluster=a={a},b={B}");
        let advertised = format!("--initial-advertise-peer-urls={B}");
        let born = birth(&settings(&["--name=b", &advertised, &cluster]), 1, &logger());
        assert_eq!(born.is_err(), is_refused);
        if let Err(error) = born {
            let text = format!("member {own_id:x} has already been bootstrapped");
            assert!(error.to_string().contains(&text), "{error}");
        }
        thread.join().unwrap();
    }
}

#[test]
fn one_that_joins_gets_the_id_it_was_given() {
    let down = nobody();
    let json = |a: &str| {
        format!(
            "[{{\"id\":6662698563040693991,\"peerURLs\":[\"{a}\"],\"name\":\"a\",\
             \"clientURLs\":[\"http://127.0.0.1:33379\"]}},{{\"id\":10464154583729285469,\
             \"peerURLs\":[\"{B}\"],\"isLearner\":true}},{{\"id\":7,\"peerURLs\":[\"{down}\"]}}]"
        )
    };
    // Its own URL goes into the answer, so it is bound before that is known.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let a = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (b, thread) = member(answer(&json(&a)), 1);
    // The first in the order of names does not answer; the second does.
    let joiner = joining(&format!("a={a},b={B},c={down}"));
    let mut cluster = joiner.initial_cluster().unwrap();
    assert_eq!(cluster.count(), 3);
    // The member that answers is asked at another URL than it advertises.
    let remote = fetch(&b, FETCH_WAIT_MAX).unwrap();
    thread.join().unwrap();
    let (own_id, others) = match_members("b", &cluster, &remote).unwrap();
    assert_eq!(format!("{own_id:x}"), "9138252705f5a95d");
    let names: Vec<_> = others.iter().map(|member| (member.id, &member.name[..])).collect();
    assert_eq!(names, [(7, "c"), (6662698563040693991, "a")]);
    assert_eq!(format!("{:x}", remote.id), "536f0188ef2075ac");
    assert!(remote.members[1].is_learner);

    // What etcd finds unequal is unequal.
    cluster = InitialCluster::parse(&format!("a={a},b={B}")).unwrap();
    let text = match_members("b", &cluster, &remote).unwrap_err();
    assert!(text.contains("member count is unequal"), "{text}");
    cluster = InitialCluster::parse(&format!("a={a},b=http://127.0.0.1:1,c={down}")).unwrap();
    let text = match_members("b", &cluster, &remote).unwrap_err();
    let part = "PeerURLs: no match found for existing member (9138252705f5a95d, \
                [http://127.0.0.1:33390])";
    assert!(text.contains(part), "{text}");
}

/// A whole birth by joining: the member asked advertises the URL it is asked at.
#[test]
fn a_joiner_is_born_among_those_it_was_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let a = format!("http://{}", listener.local_addr().unwrap());
    let json = format!(
        "[{{\"id\":5,\"peerURLs\":[\"{a}\"],\"name\":\"a\",\"clientURLs\":[\"http://x:1\"]}},\
         {{\"id\":9,\"peerURLs\":[\"{B}\"]}}]"
    );
    let thread = std::thread::spawn(move || {
        // The first is broken off: asked again, it answers.
        drop(listener.accept().unwrap());
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(answer(&json).as_bytes()).unwrap();
        let mut request = [0; 512];
        assert!(0 < stream.read(&mut request).unwrap());
    });
    let identity = birth(&joining(&format!("a={a},b={B}")), 1, &logger()).unwrap();
    thread.join().unwrap();
    assert_eq!((identity.cluster_id, identity.member_id), (0x536f_0188_ef20_75ac, 9));
    let known = KnownMember { id: 5, name: "a".to_owned(), peer_urls: vec![a] };
    assert_eq!(identity.birth, Some(Birth::Joiner(vec![known])));
}

#[test]
fn one_that_hears_from_nobody_says_so_as_etcd_does() {
    let wait = Duration::from_millis(1);
    let text = "cannot fetch cluster info from peer urls: could not retrieve cluster information \
                from the given URLs";
    for cluster in [format!("a={},b={B}", nobody()), format!("b={B}")] {
        let settings = joining(&cluster);
        let cluster = settings.initial_cluster().unwrap();
        let error = join(&settings, &cluster, wait, &logger()).unwrap_err();
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn answers_that_are_none_are_errors() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(2 << 20));
    for (bytes, part) in [
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404 Not Found"),
        ("HTTP/1.1 200 OK\r\n\r\n", "length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "length"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "cluster id"),
        ("SSH-2.0-OpenSSH_9.6\r\n\r\n", "SSH-2.0"),
        ("\u{fffd}\r\n\r\n", "the answer is"),
        ("HTTP/1.\r\n\r\n", "the answer is"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[", "end of file"),
        ("", "end of file"),
        (&long, "too long"),
        (&answer("{}"), "no list of members"),
        (&answer("[{\"id\":1},{\"id\":1}]"), "twice"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let bytes = bytes.to_owned();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            assert!(0 < stream.read(&mut request).unwrap());
            // One who has heard enough hangs up.
            let _ = stream.write_all(bytes.as_bytes());
        });
        let error = fetch(&url, Duration::from_secs(20)).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
        thread.join().unwrap();
    }
}

#[test]
fn one_who_never_answers_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let error = fetch(&url, Duration::from_millis(20)).unwrap_err();
    assert!(matches!(&error, FetchError::Io(e) if e.kind() == std::io::ErrorKind::TimedOut));
}

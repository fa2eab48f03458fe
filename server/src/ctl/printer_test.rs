//! The three formats against what etcdctl 3.7.1 printed for the same answers.

use super::printer::{EndpointHealth, EndpointStatus, Format, MemberChange, Printer, Shown};
use corestone_client::{
    ClusterMember, DeleteRangeResponse, Event, EventList, EventType, Granted, KeyValue, KvList,
    LeaseTimeToLive, MemberAdded, MemberStatus, PutResponse, RangeResponse, ResponseHeader,
    ResponseOp, TxnResponse, WatchMessage,
};
use std::time::Duration;

const HEADER: ResponseHeader = ResponseHeader {
    cluster_id: 13_455_796_455_940_752_355,
    member_id: 443_629_905_751_424_238,
    revision: 3,
    raft_term: 2,
};

const JSON_HEADER: &str = "\"cluster_id\":13455796455940752355,\
     \"member_id\":443629905751424238,\"revision\":3,\"raft_term\":2";

const FIELDS_HEADER: &str = "\"ClusterID\" : 13455796455940752355\n\
     \"MemberID\" : 443629905751424238\n\"Revision\" : 3\n\"RaftTerm\" : 2\n";

fn shown(format: Format, hex: bool, shown: &Shown<'_>) -> String {
    let mut out = Vec::new();
    Printer::new(format, hex, &mut out).show(&HEADER, shown).unwrap();
    String::from_utf8(out).unwrap()
}

fn check(what: &Shown<'_>, simple: &str, json: &str, fields: &str) {
    assert_eq!(shown(Format::Simple, false, what), simple);
    let json = json.replace("HEADER", JSON_HEADER) + "\n";
    assert_eq!(shown(Format::Json, false, what), json);
    assert_eq!(shown(Format::Fields, false, what), FIELDS_HEADER.to_owned() + fields);
}

fn one(value: &[u8]) -> KvList {
    let mut kvs = KvList::default();
    kvs.push(KeyValue {
        key: b"a",
        value,
        create_revision: 2,
        mod_revision: 3,
        version: 2,
        lease: 0,
    });
    kvs
}

#[test]
fn puts_gets_and_deletions() {
    let put = PutResponse { revision: 3, prev_kv: KvList::default() };
    check(&Shown::Put(&put), "OK\n", "{\"header\":{HEADER}}", "");
    let put = PutResponse { revision: 3, prev_kv: one(b"1") };
    let kv = "{\"key\":\"YQ==\",\"create_revision\":2,\"mod_revision\":3,\"version\":2,\
              \"value\":\"MQ==\"}";
    let kv_fields = "\"Key\" : \"a\"\n\"CreateRevision\" : 2\n\"ModRevision\" : 3\n\
                     \"Version\" : 2\n\"Value\" : \"1\"\n\"Lease\" : 0\n";
    let prev_fields = kv_fields.replace("\"\n", "\n").replace('"', "").lines().fold(
        String::new(),
        |text, line| {
            let (name, value) = line.split_once(" : ").unwrap();
            let value = if name == "Key" || name == "Value" {
                format!("\"{value}\"")
            } else {
                value.into()
            };
            text + &format!("\"Prev{name}\" : {value}\n")
        },
    );
    let json = format!("{{\"header\":{{HEADER}},\"prev_kv\":{kv}}}");
    check(&Shown::Put(&put), "OK\na\n1\n", &json, &prev_fields);

    let range = RangeResponse { revision: 3, kvs: one(b"1"), more: true, count: 2 };
    let json = format!("{{\"header\":{{HEADER}},\"kvs\":[{kv}],\"more\":true,\"count\":2}}");
    let fields = format!("{kv_fields}\"More\" : true\n\"Count\" : 2\n");
    check(&Shown::Get(&range), "a\n1\n", &json, &fields);
    let nothing = RangeResponse::default();
    let fields = "\"More\" : false\n\"Count\" : 0\n";
    check(&Shown::Get(&nothing), "", "{\"header\":{HEADER}}", fields);
    assert_eq!(shown(Format::Simple, true, &Shown::Get(&range)), "\\x61\n\\x31\n");
    let mut out = Vec::new();
    let mut printer = Printer::new(Format::Simple, false, &mut out);
    printer.show_values_only();
    printer.show(&HEADER, &Shown::Get(&range)).unwrap();
    assert_eq!(out, b"1\n");

    let delete = DeleteRangeResponse { revision: 3, deleted: 1, prev_kvs: one(b"1") };
    let json = format!("{{\"header\":{{HEADER}},\"deleted\":1,\"prev_kvs\":[{kv}]}}");
    let fields = format!("\"Deleted\" : 1\n{prev_fields}");
    check(&Shown::Del(&delete), "1\na\n1\n", &json, &fields);
}

#[test]
fn transactions() {
    let put = PutResponse { revision: 19, prev_kv: KvList::default() };
    let range = RangeResponse { revision: 19, kvs: one(b"1"), more: false, count: 1 };
    let delete = DeleteRangeResponse { revision: 19, ..DeleteRangeResponse::default() };
    let txn = TxnResponse {
        revision: 3,
        succeeded: true,
        responses: vec![
            ResponseOp::Put(put),
            ResponseOp::Range(range),
            ResponseOp::DeleteRange(delete),
        ],
    };
    let kv = "{\"key\":\"YQ==\",\"create_revision\":2,\"mod_revision\":3,\"version\":2,\
              \"value\":\"MQ==\"}";
    let json = format!(
        "{{\"header\":{{HEADER}},\"succeeded\":true,\"responses\":[\
         {{\"Response\":{{\"response_put\":{{\"header\":{{\"revision\":19}}}}}}}},\
         {{\"Response\":{{\"response_range\":{{\"header\":{{\"revision\":19}},\
         \"kvs\":[{kv}],\"count\":1}}}}}},\
         {{\"Response\":{{\"response_delete_range\":{{\"header\":{{\"revision\":19}}}}}}}}]}}"
    );
    let inner = "\"ClusterID\" : 0\n\"MemberID\" : 0\n\"Revision\" : 19\n\"RaftTerm\" : 0\n";
    let fields = format!(
        "\"Succeeded\" : true\n{inner}{inner}\"Key\" : \"a\"\n\"CreateRevision\" : 2\n\
         \"ModRevision\" : 3\n\"Version\" : 2\n\"Value\" : \"1\"\n\"Lease\" : 0\n\
         \"More\" : false\n\"Count\" : 1\n{inner}\"Deleted\" : 0\n"
    );
    check(&Shown::Txn(&txn), "SUCCESS\n\nOK\n\na\n1\n\n0\n", &json, &fields);
    let failed = TxnResponse { succeeded: false, ..TxnResponse::default() };
    let fields = "\"Succeeded\" : false\n";
    check(&Shown::Txn(&failed), "FAILURE\n", "{\"header\":{HEADER}}", fields);
}

#[test]
fn watches() {
    let mut events = EventList::default();
    let kv = KeyValue { key: b"w", mod_revision: 14, ..KeyValue::default() };
    let before = one(b"2");
    let event_type = EventType::Delete;
    events.push(Event { event_type, kv, prev_kv: before.first() });
    let message = WatchMessage { revision: 3, events };
    let json = "{\"Header\":{HEADER},\"Events\":[{\"type\":1,\
                \"kv\":{\"key\":\"dw==\",\"mod_revision\":14},\"prev_kv\":{\"key\":\"YQ==\",\
                \"create_revision\":2,\"mod_revision\":3,\"version\":2,\"value\":\"Mg==\"}}],\
                \"CompactRevision\":0,\"Canceled\":false,\"Created\":false,\"CancelReason\":\"\"}";
    let fields = "\"Type\" : DELETE\n\"PrevKey\" : \"a\"\n\"PrevCreateRevision\" : 2\n\
                  \"PrevModRevision\" : 3\n\"PrevVersion\" : 2\n\"PrevValue\" : \"2\"\n\
                  \"PrevLease\" : 0\n\"Key\" : \"w\"\n\"CreateRevision\" : 0\n\
                  \"ModRevision\" : 14\n\"Version\" : 0\n\"Value\" : \"\"\n\"Lease\" : 0\n";
    check(&Shown::Watch(&message), "DELETE\na\n2\nw\n\n", json, fields);
    let progress = WatchMessage { revision: 3, events: EventList::default() };
    let text = shown(Format::Simple, false, &Shown::Watch(&progress));
    assert_eq!(text, "progress notify: 3\n");
}

#[test]
fn leases() {
    let granted = Granted { id: 0x3cee_a204_5526_1a12, ttl_s: 60 };
    check(
        &Shown::LeaseGrant(granted),
        "lease 3ceea20455261a12 granted with TTL(60s)\n",
        "{HEADER,\"ID\":4390624826224941586,\"TTL\":60,\"Error\":\"\"}",
        "\"ID\" : 4390624826224941586\n\"TTL\" : 60\n",
    );
    check(
        &Shown::LeaseKeepAlive(granted),
        "lease 3ceea20455261a12 keepalived with TTL(60)\n",
        "{HEADER,\"ID\":4390624826224941586,\"TTL\":60}",
        "\"ID\" : 4390624826224941586\n\"TTL\" : 60\n",
    );
    let revoked = "lease 0000000000001234 revoked\n";
    check(&Shown::LeaseRevoke { id: 0x1234 }, revoked, "{\"header\":{HEADER}}", "");
    let lease = LeaseTimeToLive {
        id: 0x1234,
        ttl_s: 99,
        granted_ttl_s: 100,
        keys: vec![b"k".to_vec(), b"l".to_vec()],
    };
    check(
        &Shown::LeaseTimeToLive { lease: &lease, keys: true },
        "lease 0000000000001234 granted with TTL(100s), remaining(99s), attached keys([k l])\n",
        "{HEADER,\"id\":4660,\"ttl\":99,\"granted-ttl\":100,\"keys\":[\"aw==\",\"bA==\"]}",
        "\"ID\" : 4660\n\"TTL\" : 99\n\"GrantedTTL\" : 100\n\"Key\" : \"k\"\n\"Key\" : \"l\"\n",
    );
    let gone = LeaseTimeToLive { id: 0x1234, ttl_s: -1, ..LeaseTimeToLive::default() };
    check(
        &Shown::LeaseTimeToLive { lease: &gone, keys: false },
        "lease 0000000000001234 already expired\n",
        "{HEADER,\"id\":4660,\"ttl\":-1,\"granted-ttl\":0,\"keys\":null}",
        "\"ID\" : 4660\n\"TTL\" : -1\n\"GrantedTTL\" : 0\n",
    );
    check(
        &Shown::Leases(&[1, 4660]),
        "found 2 leases\n0000000000000001\n0000000000001234\n",
        "{HEADER,\"leases\":[{\"id\":1},{\"id\":4660}]}",
        "\"ID\" : 1\n\"ID\" : 4660\n",
    );
}

fn status() -> EndpointStatus {
    EndpointStatus {
        endpoint: "127.0.0.1:33791".to_owned(),
        header: HEADER,
        status: MemberStatus {
            version: "3.7.1".to_owned(),
            storage_version: "3.7.0".to_owned(),
            db_size_bytes: 20_480,
            db_size_in_use_bytes: 16_384,
            db_size_quota_bytes: 2_147_483_648,
            leader: HEADER.member_id,
            raft_index: 28,
            raft_applied_index: 28,
            is_learner: false,
            errors: Vec::new(),
        },
    }
}

#[test]
fn the_status_of_members() {
    let simple = "127.0.0.1:33791, 628170c800dbcee, 3.7.1, 3.7.0, 20 kB, 16 kB, 20%, 2.1 GB, true, \
                  false, 2, 28, 28, , , false\n";
    let json = format!(
        "{{\"Endpoint\":\"127.0.0.1:33791\",\"Status\":{{\"header\":{{{JSON_HEADER}}},\
         \"version\":\"3.7.1\",\"dbSize\":20480,\"leader\":443629905751424238,\"raftIndex\":28,\
         \"raftTerm\":2,\"raftAppliedIndex\":28,\"dbSizeInUse\":16384,\
         \"storageVersion\":\"3.7.0\",\"dbSizeQuota\":2147483648,\"downgradeInfo\":{{}}}}}}"
    );
    let fields = format!(
        "{FIELDS_HEADER}\"Version\" : \"3.7.1\"\n\"StorageVersion\" : \"3.7.0\"\n\
         \"DBSize\" : 20480\n\"DBSizeInUse\" : 16384\n\"DBSizeQuota\" : 2147483648\n\
         \"Leader\" : 443629905751424238\n\"IsLearner\" : false\n\"RaftIndex\" : 28\n\
         \"RaftTerm\" : 2\n\"RaftAppliedIndex\" : 28\n\"Errors\" : []\n\
         \"Endpoint\" : \"127.0.0.1:33791\"\n\"DowngradeTargetVersion\" : \"\"\n\
         \"DowngradeEnabled\" : false\n\n"
    );
    let two = [status(), status()];
    let shown = |format| shown(format, false, &Shown::Statuses(&two));
    assert_eq!(shown(Format::Simple), simple.repeat(2));
    assert_eq!(shown(Format::Json), format!("[{json},{json}]\n"));
    assert_eq!(shown(Format::Fields), fields.repeat(2));
    let rule = |text: &str| text.replace('x', "─");
    let table = shown(Format::Table);
    let lines: Vec<&str> = table.lines().collect();
    let top =
        "┌xxxxxxxxxxxxxxxxx┬xxxxxxxxxxxxxxxxx┬xxxxxxxxx┬xxxxxxxxxxxxxxxxx┬xxxxxxxxx┬xxxxxxxx┬";
    assert!(lines[0].starts_with(&rule(top)), "{table}");
    let names = "│    ENDPOINT     │       ID        │ VERSION │ STORAGE VERSION │ DB SIZE │ IN USE │ \
                 PERCENTAGE NOT IN USE │ QUOTA  │ IS LEADER │ IS LEARNER │ RAFT TERM │ RAFT INDEX │ \
                 RAFT APPLIED INDEX │ ERRORS │ DOWNGRADE TARGET VERSION │ DOWNGRADE ENABLED │";
    assert_eq!(lines[1], names);
    let row = "│ 127.0.0.1:33791 │ 628170c800dbcee │   3.7.1 │           3.7.0 │   20 kB │  16 kB │ \
               \x20                 20% │ 2.1 GB │      true │      false │         2 │         28 │ \
               \x20               28 │        │                          │             false │";
    assert_eq!((lines[3], lines[4]), (row, row));
    assert_eq!(lines.len(), 6);
    assert_eq!(super::printer_test::shown(Format::Json, false, &Shown::Statuses(&[])), "null\n");
}

#[test]
fn the_health_of_endpoints() {
    let health = |endpoint: &str, took_ns, error: &str| EndpointHealth {
        endpoint: endpoint.to_owned(),
        took: Duration::from_nanos(took_ns),
        error: error.to_owned(),
    };
    let healths = [
        health("127.0.0.1:33791", 8_552_111, ""),
        health("127.0.0.1:1", 300_732_225, "context deadline exceeded"),
    ];
    let shown = |format| shown(format, false, &Shown::Healths(&healths));
    let simple = "127.0.0.1:33791 is healthy: successfully committed proposal: took = 8.552111ms\n";
    assert_eq!(shown(Format::Simple), simple, "who is not is told on standard error");
    let json = "[{\"endpoint\":\"127.0.0.1:33791\",\"health\":true,\"took\":\"8.552111ms\"},\
                {\"endpoint\":\"127.0.0.1:1\",\"health\":false,\"took\":\"300.732225ms\",\
                \"error\":\"context deadline exceeded\"}]\n";
    assert_eq!(shown(Format::Json), json);
    let fields = "\"Endpoint\" : \"127.0.0.1:33791\"\n\"Health\" : true\n\
                  \"Took\" : 8.552111ms\n\"Error\" : \n\n\
                  \"Endpoint\" : \"127.0.0.1:1\"\n\"Health\" : false\n\
                  \"Took\" : 300.732225ms\n\"Error\" : context deadline exceeded\n\n";
    assert_eq!(shown(Format::Fields), fields);
    let table = "\
┌─────────────────┬────────┬──────────────┬───────────────────────────┐
│    ENDPOINT     │ HEALTH │     TOOK     │           ERROR           │
├─────────────────┼────────┼──────────────┼───────────────────────────┤
│ 127.0.0.1:33791 │   true │   8.552111ms │                           │
│     127.0.0.1:1 │  false │ 300.732225ms │ context deadline exceeded │
└─────────────────┴────────┴──────────────┴───────────────────────────┘
";
    assert_eq!(shown(Format::Table), table);
}

fn members() -> [ClusterMember; 2] {
    [
        ClusterMember {
            id: 0xcc4a_c920_d46f_f089,
            name: "m1".to_owned(),
            peer_urls: vec!["http://127.0.0.1:33801".to_owned()],
            client_urls: vec!["http://127.0.0.1:33791".to_owned()],
            binary_urls: vec!["http://127.0.0.1:33792".to_owned()],
            is_learner: false,
        },
        ClusterMember {
            id: 0xf018_f300_3c16_5149,
            peer_urls: vec!["http://127.0.0.1:33802".to_owned()],
            is_learner: true,
            ..ClusterMember::default()
        },
    ]
}

#[test]
fn the_members_of_a_cluster() {
    let members = members();
    let header = ResponseHeader {
        cluster_id: 0xa511_a62e_f3d4_eb6a,
        member_id: members[0].id,
        revision: 0,
        raft_term: 2,
    };
    let shown = |format, hex, shown: &Shown<'_>| {
        let mut out = Vec::new();
        Printer::new(format, hex, &mut out).show(&header, shown).unwrap();
        String::from_utf8(out).unwrap()
    };
    let list = Shown::Members(&members);
    let simple = "cc4ac920d46ff089, started, m1, http://127.0.0.1:33801, http://127.0.0.1:33791, \
                  false\nf018f3003c165149, unstarted, , http://127.0.0.1:33802, , true\n";
    assert_eq!(shown(Format::Simple, false, &list), simple);
    let table = "\
┌──────────────────┬───────────┬──────┬────────────────────────\
┬────────────────────────┬────────────┐
│        ID        │  STATUS   │ NAME │       PEER ADDRS       \
│      CLIENT ADDRS      │ IS LEARNER │
├──────────────────┼───────────┼──────┼────────────────────────\
┼────────────────────────┼────────────┤
│ cc4ac920d46ff089 │   started │   m1 │ http://127.0.0.1:33801 \
│ http://127.0.0.1:33791 │      false │
│ f018f3003c165149 │ unstarted │      │ http://127.0.0.1:33802 \
│                        │       true │
└──────────────────┴───────────┴──────┴────────────────────────\
┴────────────────────────┴────────────┘
";
    assert_eq!(shown(Format::Table, false, &list), table);
    let head = "{\"header\":{\"cluster_id\":11894470811451714410,\
                \"member_id\":14720799474854129801,\"raft_term\":2},";
    let started = "{\"ID\":14720799474854129801,\"name\":\"m1\",\
                   \"peerURLs\":[\"http://127.0.0.1:33801\"],\
                   \"clientURLs\":[\"http://127.0.0.1:33791\"]}";
    let learner = "{\"ID\":17300845150877405513,\"peerURLs\":[\"http://127.0.0.1:33802\"],\
                   \"isLearner\":true}";
    let json = format!("{head}\"members\":[{started},{learner}]}}\n");
    assert_eq!(shown(Format::Json, false, &list), json);
    let hex = "{\"header\":{\"cluster_id\":\"a511a62ef3d4eb6a\",\
               \"member_id\":\"cc4ac920d46ff089\",\"raft_term\":2},\
               \"members\":[{\"ID\":\"cc4ac920d46ff089\",\"name\":\"m1\",\
               \"peerURLs\":[\"http://127.0.0.1:33801\"],\
               \"clientURLs\":[\"http://127.0.0.1:33791\"]}]}\n";
    assert_eq!(shown(Format::Json, true, &Shown::Members(&members[..1])), hex);
    let fields = "\"ClusterID\" : 11894470811451714410\n\"MemberID\" : 14720799474854129801\n\
                  \"RaftTerm\" : 2\n\"ID\" : 14720799474854129801\n\"Name\" : \"m1\"\n\
                  \"PeerURL\" : \"http://127.0.0.1:33801\"\n\
                  \"ClientURL\" : \"http://127.0.0.1:33791\"\n\"IsLearner\" : false\n\n\
                  \"ID\" : 17300845150877405513\n\"Name\" : \"\"\n\
                  \"PeerURL\" : \"http://127.0.0.1:33802\"\n\"IsLearner\" : true\n\n";
    assert_eq!(shown(Format::Fields, false, &list), fields);

    let added = MemberAdded { id: members[1].id, members: members.to_vec() };
    let json = format!("{head}\"member\":{learner},\"members\":[{started},{learner}]}}\n");
    let add = Shown::MemberAdd { added: &added, is_learner: true };
    assert_eq!(shown(Format::Json, false, &add), json);
    let removed = MemberChange::Removed;
    let change = Shown::MemberChange { id: 0x1f, change: removed, members: &members[..1] };
    let line = "Member               1f removed from cluster a511a62ef3d4eb6a\n";
    assert_eq!(shown(Format::Simple, false, &change), line);
    let json = format!("{head}\"members\":[{started}]}}\n");
    assert_eq!(shown(Format::Json, false, &change), json);
}

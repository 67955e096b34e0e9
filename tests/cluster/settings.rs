//! Settings of the cluster: changed through one node, the same on all, also when everything was restarted and when
//! snapshots are all that is left of the change.

use super::{
    command_line::client,
    data_directory::{json, look},
    snapshots,
};
use proto::{
    admin::v1::{Settings, UpdateSettingsRequest, UpdateSettingsResponse, admin_service_client::AdminServiceClient},
    kv::v1::{Configured, get_outcome_response::Outcome},
};
use tests::{cluster::Cluster, rpc, wait::wait_for};
use tonic::{Code, Status};

/// What `client-cli` says when it has switched lease reads on.
const ASSUMPTION: &str = "Assumes that the monotonic clocks of all nodes run at rates that differ by less than 10 \
                          percent, and that none stands still while its machine is suspended. If that is ever wrong, a \
                          read may be answered with an old value.\n";

pub(crate) async fn update(
    cluster: &Cluster,
    asked: usize,
    request: UpdateSettingsRequest,
) -> Result<UpdateSettingsResponse, Status> {
    rpc::bounded(AdminServiceClient::new(cluster.nodes[asked].channel()).update_settings(request)).await
}

/// Waits until every node that is up has this setting.
pub(crate) async fn all_have(cluster: &Cluster, lease_reads: bool) {
    wait_for("every node has the setting", async || {
        let statuses = cluster.statuses().await?;
        let is_so = statuses.iter().all(|(_, status)| status.settings == Some(Settings { lease_reads }));
        is_so.then_some(())
    })
    .await;
}

fn restart(cluster: &mut Cluster) {
    cluster.nodes.iter_mut().for_each(tests::node::Node::kill);
    cluster.start_all();
}

/// Changes the setting by the command line, which is told of one node.
async fn set(cluster: &Cluster, node: usize, setting: &str) -> (String, String) {
    let output = client(&cluster.nodes[node].address().to_string(), &[], &["settings", "set", setting]).await;
    let text = |bytes| String::from_utf8(bytes).expect("it is text");
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
    (stdout, stderr)
}

#[tokio::test]
async fn a_setting_is_the_same_on_all_nodes_and_outlives_restarts_and_the_log() {
    let mut cluster = Cluster::start(snapshots::options(3)).await;
    all_have(&cluster, false).await;
    let leader = cluster.leader().await;
    let [asked, behind] = cluster.others(leader)[..] else { panic!("there are three") };
    cluster.nodes[behind].kill();
    let told = set(&cluster, asked, "lease-reads=on").await;
    assert_eq!(told, ("ok: lease-reads=on\n".to_owned(), ASSUMPTION.to_owned()));
    all_have(&cluster, true).await;
    let changed = rpc::status(&cluster.nodes[leader].channel()).await.expect("the leader is up").last_index;

    // From here on it is in the snapshots of two, and the third one has to get one of those.
    snapshots::overwrite_until(&cluster, leader, "both have cut the change", |statuses| {
        statuses.iter().all(|status| status.first_index > changed)
    })
    .await;
    restart(&mut cluster);
    let leader = cluster.ready().await;
    cluster.put(leader, "after the first restart", "v").await.expect("a healthy cluster answers");
    cluster.converged().await;
    let caught_up = rpc::status(&cluster.nodes[behind].channel()).await.expect("it is up");
    assert!(caught_up.first_index > changed, "what it missed came as a snapshot: {caught_up:?}");
    all_have(&cluster, true).await;

    cluster.nodes.iter_mut().for_each(tests::node::Node::kill);
    for node in &cluster.nodes {
        let (code, text, _) = look(&["verify", "--json"], node.directory()).await;
        assert_eq!((code, &json(&text)["settings"]["lease_reads"]), (Some(0), &true.into()), "{text}");
        let (_, text, _) = look(&["verify"], node.directory()).await;
        assert!(text.contains("\n  settings     lease reads on\n"), "{text}");
    }
    cluster.start_all();
    cluster.ready().await;
    all_have(&cluster, true).await;

    // What was acknowledged survives the end of all.
    assert_eq!(set(&cluster, behind, "lease-reads=off").await, ("ok: lease-reads=off\n".to_owned(), String::new()));
    restart(&mut cluster);
    cluster.ready().await;
    all_have(&cluster, false).await;
    let output = client(&cluster.endpoints(), &[], &["settings", "show", "-o", "json"]).await;
    let shown = json(&String::from_utf8_lossy(&output.stdout));
    for (number, node) in cluster.nodes.iter().enumerate() {
        assert_eq!(
            (&shown[number]["name"], &shown[number]["settings"]["lease_reads"]),
            (&node.name().into(), &false.into())
        );
    }
}

#[tokio::test]
async fn a_change_of_settings_is_the_leaders_to_make_and_runs_once() {
    let cluster = Cluster::of_three().await;
    let leader = cluster.leader().await;
    let follower = cluster.others(leader)[0];
    let named = |lease_reads, session| UpdateSettingsRequest {
        lease_reads: Some(lease_reads),
        request_id: Some(rpc::request_id(session, 1)),
    };
    let misdirected = rpc::failure(update(&cluster, follower, named(true, 1)).await);
    misdirected.expect(Code::Unavailable, "NOT_LEADER");
    misdirected.expect_outcome(rpc::Outcome::NotApplied);
    assert_eq!(misdirected.metadata["leaderAddress"], cluster.nodes[leader].address().to_string());

    let before = cluster.converged().await;
    for (request, expected) in [(named(true, 1), true), (named(false, 2), false), (named(true, 1), true)] {
        let response = update(&cluster, leader, request).await.expect("the leader makes it");
        assert_eq!(response.settings, Some(Settings { lease_reads: expected }));
    }
    all_have(&cluster, false).await;
    let after = cluster.converged().await;
    assert_eq!(after.revision, before.revision, "no key was changed");
    // Any node settles it.
    let settled = rpc::get_outcome(&cluster.nodes[follower].channel(), rpc::request_id(1, 1)).await;
    assert_eq!(settled.expect("it is kept").outcome, Some(Outcome::Configured(Configured {})));
    let reused = rpc::failure(update(&cluster, leader, named(false, 1)).await);
    reused.expect(Code::InvalidArgument, "REQUEST_ID_REUSED");
}

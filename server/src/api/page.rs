//! The status page: what a browser sees of the cluster on a node's HTTP port.
//!
//! It is a few files of ours, made part of the program, and two answers in JSON that they ask for. The browser is told
//! to load nothing from anywhere else and to run nothing that is not in a file. Nobody can change anything here, and no
//! key and no value is ever told.

mod json;

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::gather::Gatherer;
use super::node::Node;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// A file of the page: where it is found, what it is, and its text.
type Asset = (&'static str, &'static str, &'static str);

const ASSETS: [Asset; 12] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/page.css", CSS, include_str!("page/page.css")),
    ("/cluster.js", SCRIPT, include_str!("page/cluster.js")),
    ("/dom.js", SCRIPT, include_str!("page/dom.js")),
    ("/format.js", SCRIPT, include_str!("page/format.js")),
    ("/learn.js", SCRIPT, include_str!("page/learn.js")),
    ("/load.js", SCRIPT, include_str!("page/load.js")),
    ("/main.js", SCRIPT, include_str!("page/main.js")),
    ("/nodes.js", SCRIPT, include_str!("page/nodes.js")),
    ("/ring.js", SCRIPT, include_str!("page/ring.js")),
    ("/slow.js", SCRIPT, include_str!("page/slow.js")),
    ("/stories.js", SCRIPT, include_str!("page/stories.js")),
];

/// All that a browser may load and do.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The routes of the page.
pub(super) fn routes<N: Node>(gatherer: Arc<Gatherer<N>>) -> Router {
    let data = Router::new()
        .route("/cluster.json", get(cluster::<N>))
        .route("/trace.json", get(trace::<N>))
        .with_state(gatherer);
    ASSETS.into_iter().fold(data, |router, (path, content_type, text)| {
        router.route(path, get(async move || answer(StatusCode::OK, content_type, text)))
    })
}

async fn cluster<N: Node>(State(gatherer): State<Arc<Gatherer<N>>>) -> Response {
    let reports = gatherer.reports().await;
    answer(StatusCode::OK, JSON, json::cluster(gatherer.own_name(), &reports).to_string())
}

async fn trace<N: Node>(State(gatherer): State<Arc<Gatherer<N>>>, RawQuery(query): RawQuery) -> Response {
    let Some(trace_id) = query.as_deref().and_then(trace_id) else {
        return answer(StatusCode::BAD_REQUEST, TEXT, "a trace is asked for by id=, with 32 hexadecimal digits\n");
    };
    match gatherer.trace(trace_id).await {
        Ok(spans) => answer(StatusCode::OK, JSON, json::trace(&spans).to_string()),
        Err(error) => answer(StatusCode::BAD_REQUEST, TEXT, format!("{error}\n")),
    }
}

/// The trace that a query asks for.
fn trace_id(query: &str) -> Option<[u8; 16]> {
    let id = query.split('&').find_map(|pair| pair.strip_prefix("id="))?;
    let is_id = id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_id.then(|| u128::from_str_radix(id, 16).ok()).flatten().map(u128::to_be_bytes)
}

fn answer(status: StatusCode, content_type: &'static str, body: impl IntoResponse) -> Response {
    let headers: [(HeaderName, &str); 6] = [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        // Connections are few, and the probes need theirs: who looks keeps none.
        (CONNECTION, "close"),
    ];
    (status, headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn every_file_of_the_page_is_served_and_every_file_it_names_is_there() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/page");
        let files = fs::read_dir(folder).expect("the folder is there");
        let files = files.map(|file| file.expect("it can be read").file_name().into_string().expect("it is UTF-8"));
        let files = files.filter(|name| Path::new(name).extension().is_none_or(|extension| extension != "rs"));
        let path = |name: String| if name == "index.html" { "/".to_owned() } else { format!("/{name}") };
        let there: BTreeSet<String> = files.map(path).collect();
        let served: BTreeSet<String> = ASSETS.iter().map(|(path, ..)| (*path).to_owned()).collect();
        assert_eq!(served, there);
        for (path, _, text) in ASSETS {
            for quoted in text.split(['"', '\'']) {
                let name = quoted.strip_prefix("./").unwrap_or(quoted).trim_start_matches('/');
                let is_file = name.ends_with(".js") || name.ends_with(".css");
                assert!(!is_file || served.contains(&format!("/{name}")), "{path} names {quoted}");
            }
        }
    }

    #[test]
    fn the_page_keeps_to_its_own_policy() {
        for (path, content_type, text) in ASSETS {
            for banned in
                ["http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "document.write"]
            {
                let text = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!text.contains(banned), "{path} has {banned}");
            }
            if content_type == HTML {
                assert!(!text.contains(" style=") && !text.contains(" onclick"), "{path} has styles or code inline");
                assert_eq!(text.matches("<script").count(), text.matches("<script type=\"module\" src=").count());
            }
        }
    }

    #[test]
    fn a_trace_is_asked_for_by_its_id() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        let found = trace_id(&format!("a=b&id={id}")).expect("an id");
        assert_eq!((found[0], found[15]), (0x0a, 0x9c));
        for query in ["", "id=", "id=0af7", "id=+af7651916cd43dd8448eb211c80319c", &format!("id={id}0"), "xid=1"] {
            assert_eq!(trace_id(query), None, "{query}");
        }
    }
}

use super::super::listener::ListenAddress;
use super::*;
use axum::routing::get;
use std::fs;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// A server whose one route waits for `finish`.
struct Server {
    address: std::net::SocketAddr,
    entered: Arc<Notify>,
    finish: Arc<Notify>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let ListenAddress::Tcp(address) = listener.address().unwrap() else { unreachable!() };
        let (entered, finish) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (entering, finishing) = (Arc::clone(&entered), Arc::clone(&finish));
        let router = Router::new().route(
            "/",
            get(async move || {
                entering.notify_one();
                finishing.notified().await;
                "done"
            }),
        );
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(listener, router, usize::MAX, stop.clone(), DRAIN_LIMIT));
        Self { address, entered, finish, stop, task }
    }

    /// A connection whose request is being answered.
    async fn request(&self) -> TcpStream {
        let mut connection = TcpStream::connect(self.address).await.unwrap();
        connection.write_all(REQUEST).await.unwrap();
        self.entered.notified().await;
        connection
    }
}

#[tokio::test]
async fn a_request_under_way_finishes_and_nobody_new_gets_in() {
    let server = Server::start().await;
    let mut connection = server.request().await;
    server.stop.cancel();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    server.finish.notify_one();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("done"), "{answer}");
    server.task.await.unwrap();
}

#[tokio::test]
async fn a_request_that_does_not_finish_does_not_keep_the_server() {
    let server = Server::start().await;
    let _connection = server.request().await;
    server.stop.cancel();
    timeout(10 * DRAIN_LIMIT, server.task).await.expect("it gives up").unwrap();
}

#[tokio::test]
async fn an_idle_connection_does_not_keep_the_server() {
    let server = Server::start().await;
    let _idle = TcpStream::connect(server.address).await.unwrap();
    server.stop.cancel();
    timeout(10 * DRAIN_LIMIT, server.task).await.expect("it goes").unwrap();
}

#[tokio::test]
async fn a_unix_socket_replaces_a_dead_one_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("authority.sock");
    let address = ListenAddress::Unix(path.clone());

    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a listener that was killed leaves its socket");
    let listener = Listener::bind(&address).await.unwrap();
    let in_use = Listener::bind(&address).await.err().expect("it is in use");
    assert_eq!(in_use.kind(), io::ErrorKind::AddrInUse);

    drop(listener);
    assert!(!path.exists(), "a listener that ends takes its socket along");
    fs::write(&path, "a file of somebody's").unwrap();
    assert!(Listener::bind(&address).await.is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "a file of somebody's");
}

#[tokio::test]
async fn a_socket_that_another_process_made_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("authority.sock");
    let ours = Listener::bind(&ListenAddress::Unix(path.clone())).await.unwrap();
    fs::remove_file(&path).unwrap();
    let others = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(ours);
    assert!(path.exists(), "it is another's");
    std::os::unix::net::UnixStream::connect(&path).unwrap();
    drop(others);
}

//! Whatever is done to the network: bytes arrive in order, none lost or twice, unless the stream says so.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    Read(usize),
    Wait(u64),
    Partition(bool, Direction),
    Heal,
    Latency(u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..3000_usize).prop_map(Step::Write),
        4 => (1..3000_usize).prop_map(Step::Read),
        3 => (0..2000_u64).prop_map(Step::Wait),
        1 => (any::<bool>(), prop_oneof![Just(Direction::Both), Just(Direction::AToB)])
            .prop_map(|(swap, direction)| Step::Partition(swap, direction)),
        2 => Just(Step::Heal),
        1 => (0..20_u64, 0..20_u64).prop_map(|(latency, jitter)| Step::Latency(latency, jitter)),
    ]
}

/// The nth byte of the stream.
fn byte(n: usize) -> u8 {
    (n % 251) as u8
}

async fn play(seed: u64, steps: Vec<Step>) {
    let net = Net::new(seed);
    let (web, db) = (net.add_host("web"), net.add_host("db"));
    net.set_buffers(2000, 1500);
    let listener = db.listen(1, 1).unwrap();
    let mut client = web.connect("db", 1, &SocketOptions::default()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let (mut written, mut got) = (0, 0);
    let mut buffer = vec![0; 3000];
    for step in steps {
        match step {
            Step::Write(n) => {
                let bytes: Vec<u8> = (written..written + n).map(byte).collect();
                if let Ok(result) = tokio::time::timeout(ms(1), client.write(&bytes)).await {
                    written += result.unwrap();
                }
            }
            Step::Read(n) => {
                if let Ok(result) = tokio::time::timeout(ms(1), server.read(&mut buffer[..n])).await {
                    let n = result.unwrap();
                    assert!(buffer[..n].iter().enumerate().all(|(i, b)| *b == byte(got + i)));
                    got += n;
                }
            }
            Step::Wait(n) => tokio::time::sleep(ms(n)).await,
            Step::Partition(false, direction) => net.partition(&web, &db, direction),
            Step::Partition(true, direction) => net.partition(&db, &web, direction),
            Step::Heal => net.heal(&web, &db),
            Step::Latency(latency, jitter) => {
                net.set_default_link(Link { latency: ms(latency), jitter: ms(jitter), bandwidth: None });
            }
        }
    }
    // Shorter than any give-up: the stream must be whole. Then the rest arrives, and the end.
    net.heal(&web, &db);
    drop(client);
    loop {
        let n = tokio::time::timeout(s(600), server.read(&mut buffer)).await.expect("the rest arrives").unwrap();
        assert!(buffer[..n].iter().enumerate().all(|(i, b)| *b == byte(got + i)));
        got += n;
        if n == 0 {
            break;
        }
    }
    assert_eq!(got, written);
    drop(server);
    tokio::time::sleep(s(300)).await;
    assert!(net.flows().is_empty(), "{:?}", net.flows());
    assert_eq!(net.pending_events(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn bytes_arrive_in_order_once(seed in any::<u64>(), steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(play(seed, steps));
    }
}

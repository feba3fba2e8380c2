//! Sums over ranks where their values lie, on machines that can: GPUs by NCCL, host machines by their own.

use std::sync::Arc;

use scaleshot::nn::cuda::Machine;

use super::operators::Bench;

/// One rank a machine; the sums are of whole numbers, and so exact in any order. False where the machines cannot.
pub fn ranks(machines: &[Arc<dyn Machine>]) -> bool {
    let Some(word) = machines[0].word().unwrap() else { return false };
    let (count, ranks) = (100_003, machines.len());
    let value = |i: usize, rank: usize, round: usize| (i % 1000 + 10 * rank + round) as f32;
    let rank = |rank: usize| {
        let machine = &*machines[rank];
        let link = machine.join(&word, rank, ranks).unwrap();
        let mut b = Bench::new(machine);
        let values = |round| (0..count).map(|i| value(i, rank, round)).collect::<Vec<_>>();
        let (at, after) = (b.f32s(&values(0)), b.f32s(&[7.0]));
        for round in 0..3 {
            // Neither the new values nor the sum is waited for.
            machine.write(at, &values(round).iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()).unwrap();
            link.sum(at, count).unwrap();
            let sums = (0..count).map(|i| (0..ranks).map(|rank| value(i, rank, round)).sum()).collect::<Vec<f32>>();
            assert!(b.get_f32s(at, count) == sums, "round {round} of rank {rank} of {ranks}");
        }
        assert_eq!(b.get_f32s(after, 1), [7.0]);
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..ranks).map(|of| scope.spawn(move || rank(of))).collect();
        rank(0);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
    true
}

"""A second process that runs the GRU at batch 256 on all threads until it is killed."""

from bench.rnn_inference import Case, runs_of

if __name__ == "__main__":
    run = runs_of(Case("GRU", 50, 256, 128, peers=()))[0]["seqrec_fast"]
    run()
    print("ready", flush=True)
    while True:
        run()

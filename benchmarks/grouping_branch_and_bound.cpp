// The peer of grouping_solver.py: Algorithm 1 of "Which Tasks Should Be Learned Together in Multi-task Learning?" as it is
// printed, plainly: filter, sort, recurse, no bound. Reads problems from the standard input and prints, for each, the
// lowest total loss and the seconds it took; -1 where the time limit came first.
//
//   seconds | problems | per problem: tasks networks budget | per network: cost, one loss per task (1e9: not served)
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

using Clock = std::chrono::steady_clock;

struct Network {
    double cost;
    std::vector<double> losses;
};

struct Search {
    Clock::time_point deadline;
    double best;
    long nodes;
    bool stopped;

    static double gain(const Network &network, const std::vector<double> &now) {
        double sum = 0;
        for (size_t t = 0; t < now.size(); t++) sum += std::max(0.0, now[t] - network.losses[t]);
        return sum;
    }

    void descend(const std::vector<const Network *> &candidates, const std::vector<double> &now, double left) {
        if (++nodes % 1024 == 0 && Clock::now() > deadline) stopped = true;
        if (stopped) return;
        double total = 0;
        for (double loss : now) total += loss;
        best = std::min(best, total);
        std::vector<std::pair<double, const Network *>> useful;
        for (const Network *network : candidates) {
            const double improved = network->cost <= left + 1e-9 ? gain(*network, now) : 0;
            if (improved > 0) useful.emplace_back(improved, network);
        }
        std::sort(useful.begin(), useful.end());  // the most promising last, where it is cheap to remove
        std::vector<const Network *> rest;
        for (const auto &entry : useful) rest.push_back(entry.second);
        while (!rest.empty()) {
            const Network *network = rest.back();
            rest.pop_back();
            std::vector<double> then(now);
            for (size_t t = 0; t < now.size(); t++) then[t] = std::min(then[t], network->losses[t]);
            descend(rest, then, left - network->cost);
        }
    }
};

int main() {
    double limit;
    int problems;
    if (std::scanf("%lf %d", &limit, &problems) != 2) return 1;
    for (int problem = 0; problem < problems; problem++) {
        int tasks, count;
        double budget;
        if (std::scanf("%d %d %lf", &tasks, &count, &budget) != 3) return 1;
        std::vector<Network> networks(count);
        for (Network &network : networks) {
            network.losses.resize(tasks);
            if (std::scanf("%lf", &network.cost) != 1) return 1;
            for (double &loss : network.losses)
                if (std::scanf("%lf", &loss) != 1) return 1;
        }
        std::vector<const Network *> candidates;
        for (const Network &network : networks) candidates.push_back(&network);
        const auto start = Clock::now();
        const auto span = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(limit));
        Search search{start + span, 1e300, 0, false};
        search.descend(candidates, std::vector<double>(tasks, 1e9), budget);
        const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
        std::printf("%.10f %.6f\n", search.stopped ? -1.0 : search.best, seconds);
    }
}

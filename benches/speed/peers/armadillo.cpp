// Seconds of one iteration of Armadillo's gmm_full, the difference of two runs of learn().
// usage: armadillo FOLDER CALLS; the folder holds shape, rows, weights, means and covariances
#include <armadillo>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>

static arma::vec read(const std::string& name, arma::uword count) {
    arma::vec values(count);
    std::ifstream(name, std::ios::binary).read(reinterpret_cast<char*>(values.memptr()), count * 8);
    return values;
}

int main(int, char** arguments) {
    const std::string folder = std::string(arguments[1]) + "/";
    arma::uword n, d, k;
    std::ifstream(folder + "shape") >> n >> d >> k;
    const arma::mat rows(read(folder + "rows", n * d).memptr(), d, n);
    const arma::rowvec weights = read(folder + "weights", k).t();
    const arma::mat means(read(folder + "means", k * d).memptr(), d, k);
    const arma::cube covariances(read(folder + "covariances", k * d * d).memptr(), d, d, k);
    const auto seconds = [&](arma::uword iterations) {
        arma::gmm_full model;
        model.set_params(means, covariances, weights);
        const auto began = std::chrono::steady_clock::now();
        model.learn(rows, k, arma::maha_dist, arma::keep_existing, 0, iterations, 1e-10, false);
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    };
    seconds(1);
    for (int call = 0; call < std::stoi(arguments[2]); ++call) {
        const double one = seconds(1);
        std::printf("%.9f\n", (seconds(6) - one) / 5);
    }
}

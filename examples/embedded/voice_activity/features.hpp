// Log-mel frames, as `features` of train.py: what the model was trained on.
#ifndef FEATURES_HPP
#define FEATURES_HPP

#include <array>
#include <cmath>

class LogMel {
 public:
  static constexpr int rate = 8000, window = 256, hop = 128, bands = 20;

  // All tables are made here; a frame then allocates nothing.
  LogMel() {
    const double turn = 2 * std::acos(-1.0) / window;
    for (int n = 0; n < window; ++n) {
      cosine_[n] = std::cos(turn * n);
      sine_[n] = std::sin(turn * n);
    }
    // Triangles between 100 and 3800 Hz, evenly spaced in mel.
    const double low = std::log1p(100 / 700.0), high = std::log1p(3800 / 700.0);
    const auto edge = [&](int i) { return 700 * std::expm1(low + i * (high - low) / (bands + 1)); };
    for (int band = 0; band < bands; ++band) {
      const double left = edge(band), centre = edge(band + 1), right = edge(band + 2);
      for (int bin = 0; bin < bins; ++bin) {
        const double hertz = double(bin) * rate / window;
        const double up = (hertz - left) / (centre - left),
                     down = (right - hertz) / (right - centre);
        weight_[band][bin] = std::fmax(0, std::fmin(up, down));
      }
    }
  }

  // A window of samples to the energies of its bands.
  void frame(const float* samples, float* energies) const {
    std::array<double, bins> power;
    for (int bin = 0; bin < bins; ++bin) power[bin] = power_of(samples, bin);
    for (int band = 0; band < bands; ++band) {
      double sum = 1e-4;
      for (int bin = 0; bin < bins; ++bin) sum += weight_[band][bin] * power[bin];
      energies[band] = float(std::log10(sum));
    }
  }

 private:
  static constexpr int bins = window / 2 + 1;

  // By its definition; where a frame had to be faster, a Fourier transform of a library stands here.
  double power_of(const float* samples, int bin) const {
    double real = 0, imaginary = 0;
    for (int n = 0; n < window; ++n) {
      const double hann = 0.5 - 0.5 * cosine_[n];
      real += hann * samples[n] * cosine_[n * bin % window];
      imaginary += hann * samples[n] * sine_[n * bin % window];
    }
    return real * real + imaginary * imaginary;
  }

  double cosine_[window], sine_[window];
  double weight_[bands][bins];
};

#endif

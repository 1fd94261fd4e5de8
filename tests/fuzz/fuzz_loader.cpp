// Any bytes as a model file: it is refused with a message, or all that can be done with the model
// works. Built with FASTRNN_FUZZ=ON; tools/trust.sh fuzz runs it. The seeds in corpus/loader come from
// make_corpus.py.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include "fastrnn/fastrnn.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace {

using Values = std::vector<float>;

void must(bool good) {
  if (!good) std::abort();
}

bool same(const Values& a, const Values& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

Values inputs(std::size_t count) {
  const float unusual[] = {0.0f,
                           -0.0f,
                           1e30f,
                           std::numeric_limits<float>::denorm_min(),
                           std::numeric_limits<float>::infinity(),
                           -3.0f};
  Values x(count);
  for (std::size_t i = 0; i < count; ++i)
    x[i] = i % 7 == 6 ? unusual[i / 7 % 6] : static_cast<float>(i % 11) / 8 - 0.5f;
  return x;
}

struct Stream {
  fr_stream* s = nullptr;
  Stream(const fr_model* model, std::size_t block_steps) {
    const fr_stream_options options = {sizeof options, block_steps};
    must(fr_stream_create(model, &options, &s) == FR_OK);
  }
  Stream(const Stream&) = delete;
  ~Stream() { fr_stream_free(s); }
};

// Arrays of exactly the size that the header states, so that AddressSanitizer sees a value too far.
class Uses {
 public:
  Uses(const fr_model* model, const fr_model_info& info) : model_(model), info_(info) {}

  void all() {
    whole();
    if (!info_.streams) {
      fr_stream* none = nullptr;
      must(fr_stream_create(model_, nullptr, &none) != FR_OK && !none);
      return;
    }
    if (!info_.takes_tokens) stream();
    tokens();
  }

 private:
  static constexpr std::size_t batch = 3, steps = 5;

  void whole() {
    const std::size_t lengths[] = {steps, 0, 2}, too_long[] = {steps, steps + 1, 0};
    const Values x = inputs(batch * steps * (info_.takes_tokens ? 0 : info_.input_size));
    const std::vector<std::int32_t> tokens(batch * steps, last_token());
    Values y(batch * steps * info_.output_size);
    const auto run = [&](const std::size_t* of) {
      return info_.takes_tokens
                 ? fr_model_run_tokens(model_, tokens.data(), batch, steps, of, y.data())
                 : fr_model_run(model_, x.data(), batch, steps, of, y.data());
    };
    must(run(nullptr) == FR_OK);
    must(run(lengths) == FR_OK);
    for (std::size_t i = steps * info_.output_size; i < 2 * steps * info_.output_size; ++i)
      must(y[i] == 0);
    must(run(too_long) == FR_INVALID_ARGUMENT);
  }

  // Steps, a block and many streams at once give the same bits, also from a state that was moved.
  void stream() {
    const std::size_t in = info_.input_size, out = info_.output_size;
    const Values x = inputs(steps * in);
    Values one(steps * out), block(steps * out), many(2 * out), both(2 * in);
    Stream a(model_, 1), b(model_, 3), c(model_, 0);
    for (std::size_t t = 0; t < steps; ++t)
      must(fr_stream_step(a.s, x.data() + t * in, one.data() + t * out) == FR_OK);
    must(fr_stream_process(b.s, x.data(), steps, block.data()) == FR_OK);
    must(same(one, block));
    Values state(info_.state_size), moved(info_.state_size);
    must(fr_stream_get_state(a.s, state.data(), state.size()) == FR_OK);
    must(fr_stream_set_state(c.s, state.data(), state.size()) == FR_OK);
    must(fr_stream_get_state(c.s, moved.data(), moved.size()) == FR_OK);
    must(same(state, moved));
    must(fr_stream_get_state(a.s, state.data(), state.size() + 1) == FR_INVALID_ARGUMENT);
    for (std::size_t i = 0; i < 2 * in; ++i) both[i] = x[i % in];
    fr_stream* const streams[] = {b.s, c.s};
    must(fr_streams_step(streams, 2, both.data(), many.data()) == FR_OK);
    Values last(out);
    must(fr_stream_step(a.s, x.data(), last.data()) == FR_OK);
    must(std::memcmp(last.data(), many.data(), out * sizeof(float)) == 0);
    must(std::memcmp(last.data(), many.data() + out, out * sizeof(float)) == 0);
    must(fr_stream_reset(a.s) == FR_OK);
    must(fr_stream_step(a.s, x.data(), last.data()) == FR_OK);
    must(std::memcmp(last.data(), one.data(), out * sizeof(float)) == 0);
  }

  void tokens() {
    Stream a(model_, 0);
    Values y(info_.output_size * 2);
    const std::int32_t ids[] = {0, last_token()};
    const fr_status status = fr_stream_step_token(a.s, ids[0], y.data());
    must(status == FR_OK || !info_.takes_tokens);
    if (status != FR_OK) return;
    must(fr_stream_process_tokens(a.s, ids, 2, y.data()) == FR_OK);
    must(fr_stream_step_token(a.s, -1, y.data()) == FR_INVALID_ARGUMENT);
    must(fr_stream_step_token(a.s, last_token() + 1, y.data()) == FR_INVALID_ARGUMENT);
  }

  std::int32_t last_token() const { return static_cast<std::int32_t>(info_.input_size) - 1; }

  const fr_model* const model_;
  const fr_model_info& info_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fr_precision precisions[] = {FR_PRECISION_AS_STORED, FR_PRECISION_BF16, FR_PRECISION_INT8};
  const fr_model_options options = {sizeof options, precisions[size % 3]};
  fr_model* model = nullptr;
  if (fr_model_load_memory(data, size, &options, &model) != FR_OK) {
    must(!model && fr_last_error()[0]);
    return 0;
  }
  fr_model_info info = {};
  info.struct_size = sizeof info;
  must(fr_model_get_info(model, &info) == FR_OK);
  must(info.input_size > 0 && info.output_size > 0 && fr_model_metadata(model));
  // A layer without weights may be as wide as it says; the arrays here would be as wide.
  if (info.input_size <= 65536 && info.output_size <= 65536) Uses(model, info).all();
  fr_model_free(model);
  return 0;
}

// Three times in four only the header changes, and its length stays what it says: so that what is
// behind the first check is reached.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  std::uint64_t header = 0;
  for (std::size_t i = 0; i < 8 && i < size; ++i) header |= std::uint64_t(data[i]) << (8 * i);
  if (size < 8 || header > size - 8 || seed % 4 == 0) return LLVMFuzzerMutate(data, size, max_size);
  const std::size_t n = static_cast<std::size_t>(header);
  const std::vector<std::uint8_t> values(data + 8 + n, data + size);
  if (8 + values.size() >= max_size) return LLVMFuzzerMutate(data, size, max_size);
  const std::size_t now = LLVMFuzzerMutate(data + 8, n, max_size - 8 - values.size());
  std::copy(values.begin(), values.end(), data + 8 + now);
  for (std::size_t i = 0; i < 8; ++i)
    data[i] = static_cast<std::uint8_t>(std::uint64_t(now) >> (8 * i));
  return 8 + now + values.size();
}

#include "model/loader.h"

#include <cmath>
#include <functional>
#include <memory>
#include <utility>

#include "model/config.h"
#include "model/failure.h"
#include "model/json.h"
#include "model/recurrent_layer.h"
#include "model/safetensors.h"
#include "model/state_bytes.h"
#include "model/weights.h"

namespace fastrnn {
namespace {

constexpr int max_depth = 100;                 // of a model, as in Python
constexpr int max_description_depth = 100000;  // with the metadata, which is not looked into

// First checks every layer, then builds the network of them.
class Loader {
 public:
  Loader(const Safetensors& file, fr_precision asked) : weights_(file), asked_(asked) {}

  void check(const json::Value& model) {
    if (model.depth() >= max_depth)
      fail_model("the model is nested too deeply (more than " + std::to_string(max_depth) +
                 " levels)");
    read_layer("", model);
    weights_.finish();
    if (width_ == 0) fail(FR_UNSUPPORTED, "model: expected a layer of which the sizes are known");
  }
  void build(LoadedModel& model) const {
    for (const auto& step : steps_) step(model.network);
    model.not_streamed = not_streamed_;
    if (recurrent_) model.precision = precision_;
  }

 private:
  struct Place {
    std::string where, prefix;  // for messages, and of its weights' names
  };
  using Read = void (Loader::*)(const Place&, Config&);
  struct LayerClass {
    const char* name;
    Read read;
  };

  void read_layer(const std::string& position, const json::Value& description) {
    const std::string place = position.empty() ? "model" : "layer " + position;
    const auto layer_class = description.find("class"), config = description.find("config");
    if (!layer_class || !config || !layer_class->is_string())
      fail_model(place + ": expected an object with the entries class and config");
    for (json::Items items(description); items.next();)
      if (items.name() != "class" && items.name() != "config")
        fail_model(place + ": unexpected entry " + quoted(items.name()));
    class_ = *layer_class->string();
    if (class_ == "Sequential") return read_sequential(position, place, *config);
    const LayerClass* known = find_class(class_);
    if (!known)
      fail(FR_UNSUPPORTED, place + ": the class " + quoted(class_) + " is not supported here");
    Config checked(place + " (" + class_ + ")", *config);
    (this->*known->read)({checked.where(), position.empty() ? "" : position + "."}, checked);
  }

  void read_sequential(const std::string& position, const std::string& place,
                       const json::Value& config) {
    const auto layers = config.find("layers");
    if (!layers || !layers->is_array())
      fail_model(place + " (Sequential): config: expected the entry layers, a list");
    Config checked(place + " (Sequential)", config);
    checked.entry("layers");
    checked.finish();
    std::size_t index = 0;
    for (json::Items items(*layers); items.next(); ++index)
      read_layer((position.empty() ? "" : position + ".") + std::to_string(index), items.value());
  }

  static const LayerClass* find_class(const std::string& name) {
    static constexpr LayerClass classes[] = {{"RNN", &Loader::read_recurrent},
                                             {"LSTM", &Loader::read_recurrent},
                                             {"GRU", &Loader::read_recurrent},
                                             {"IndRNN", &Loader::read_recurrent},
                                             {"Embedding", &Loader::read_embedding},
                                             {"Linear", &Loader::read_linear},
                                             {"LayerNorm", &Loader::read_layer_norm},
                                             {"Tanh", &Loader::read_activation},
                                             {"Sigmoid", &Loader::read_activation},
                                             {"ReLU", &Loader::read_activation},
                                             {"Softmax", &Loader::read_activation},
                                             {"Dropout", &Loader::read_dropout},
                                             {"VariationalDropout", &Loader::read_dropout},
                                             {"LastStep", &Loader::read_last_step}};
    for (const LayerClass& each : classes)
      if (name == each.name) return &each;
    return nullptr;
  }

  void read_recurrent(const Place& place, Config& config) {
    const auto layer =
        std::make_shared<RecurrentLayer>(class_, config, weights_, place.prefix, asked_);
    join(place, layer->input, layer->width());
    if (pooled_) fail_model(place.where + ": behind LastStep there are no steps");
    if (not_streamed_.empty() && (layer->bidirectional || layer->go_backwards))
      not_streamed_ =
          place.where + (layer->bidirectional ? " is bidirectional" : " goes backwards");
    if (recurrent_ && precision_ != layer->precision)
      precision_ = FR_PRECISION_AS_STORED;
    else
      precision_ = layer->precision;
    recurrent_ = true;
    steps_.push_back([layer](Network& network) { layer->add_to(network); });
  }

  void read_embedding(const Place& place, Config& config) {
    config.dtype();
    const std::uint64_t rows = config.size("num_embeddings"), width = config.size("embedding_dim");
    const auto padding = config.entry("padding_idx");
    const auto limit = static_cast<std::int64_t>(rows);
    if (padding && !padding->is_null()) {
      const std::optional<std::int64_t> index = padding->integer();
      if (!index || *index < -limit || *index >= limit)
        config.wrong("padding_idx", "null or a row of the table", *padding);
    }
    config.finish();
    const Tensor* weight = &weights_.take(place.prefix + "weight", {rows, width});
    if (!steps_.empty()) fail_model(place.where + ": takes tokens, but there is a layer before it");
    width_ = width;
    steps_.push_back([=](Network& network) {
      Arrays arrays;
      network.add_embedding(limit, static_cast<Index>(width), arrays.floats(weight));
    });
  }

  void read_linear(const Place& place, Config& config) {
    config.dtype();
    const std::uint64_t in = config.size("in_features"), out = config.size("out_features");
    const bool with_bias = config.flag("bias", true);
    config.finish();
    const Tensor* weight = &weights_.take(place.prefix + "weight", {out, in});
    const Tensor* bias = with_bias ? &weights_.take(place.prefix + "bias", {out}) : nullptr;
    join(place, in, out);
    steps_.push_back([=](Network& network) {
      Arrays arrays;
      network.add_linear(static_cast<Index>(in), static_cast<Index>(out), arrays.floats(weight),
                         arrays.floats(bias));
    });
  }

  void read_layer_norm(const Place& place, Config& config) {
    config.dtype();
    const std::uint64_t size = config.size("normalized_shape");
    const double epsilon = config.number("eps", 1e-5, 0, HUGE_VAL);
    const bool with_bias = config.flag("bias", true);
    config.finish();
    const Tensor* weight = &weights_.take(place.prefix + "weight", {size});
    const Tensor* bias = with_bias ? &weights_.take(place.prefix + "bias", {size}) : nullptr;
    join(place, size, size);
    steps_.push_back([=](Network& network) {
      Arrays arrays;
      network.add_layer_norm(static_cast<Index>(size), arrays.floats(weight), arrays.floats(bias),
                             static_cast<float>(epsilon));
    });
  }

  void read_activation(const Place& place, Config& config) {
    ActivationLayer function = ActivationLayer::softmax;
    if (class_ == "Tanh") function = ActivationLayer::tanh;
    if (class_ == "Sigmoid") function = ActivationLayer::sigmoid;
    if (class_ == "ReLU") function = ActivationLayer::relu;
    const auto axis = class_ == "Softmax" ? config.entry("dim") : std::nullopt;
    if (axis && !axis->integer()) config.wrong("dim", "an integer", *axis);
    if (axis && axis->integer() != -1)
      fail(FR_UNSUPPORTED,
           place.where + ": dim: expected -1, the last axis, got " + quoted(axis->text()));
    config.finish();
    steps_.push_back([=](Network& network) { network.add_activation(function); });
  }

  void read_dropout(const Place&, Config& config) {
    config.number("p", 0.5, 0, 1);
    if (class_ == "VariationalDropout") config.flag("batch_first", false);
    config.finish();
  }

  void read_last_step(const Place& place, Config& config) {
    config.flag("batch_first", false);
    config.finish();
    if (pooled_) fail_model(place.where + ": behind LastStep there are no steps");
    pooled_ = true;
    steps_.push_back([](Network& network) { network.add_last_step(); });
  }

  // A layer of so many inputs and outputs follows.
  void join(const Place& place, std::uint64_t in, std::uint64_t out) {
    if (width_ > 0 && width_ != in)
      fail_model(place.where + ": takes " + std::to_string(in) +
                 " values, but the layer before it gives " + std::to_string(width_));
    width_ = out;
  }

  Weights weights_;
  const fr_precision asked_;
  std::string class_;        // of the layer that is being read
  std::uint64_t width_ = 0;  // of what the last layer gives; 0: not known yet
  bool pooled_ = false, recurrent_ = false;
  fr_precision precision_ = FR_PRECISION_FLOAT32;
  std::string not_streamed_;
  std::vector<std::function<void(Network&)>> steps_;
};

// The JSON object of fastrnn.save, its outermost level checked.
json::Value parse_description(const std::string& text) {
  const json::Value description =
      json::Value::parse("the description of the model", text, max_description_depth);
  if (!description.is_object()) fail_model("the description of the model is no JSON object");
  const auto format = description.find("format");
  if (!format || format->integer() != 1)
    fail_model("expected format 1, got " + (format ? quoted(format->text()) : "none") +
               ": a file of another version");
  const auto metadata = description.find("metadata");
  if (!description.find("model") || !metadata || !metadata->is_object())
    fail_model("the description of the model lacks an entry");
  return description;
}

}  // namespace

void load_model(std::string_view file, fr_precision precision, LoadedModel& model) {
  const Safetensors content(file);
  if (!content.description()) fail_model("no fastrnn model: its metadata lack the entry 'fastrnn'");
  const json::Value description = parse_description(*content.description());
  Loader loader(content, precision);
  loader.check(*description.find("model"));
  loader.build(model);
  model.metadata = description.find("metadata")->text();
  model.fingerprint =
      hash_bytes(file.data(), file.size(), static_cast<std::uint64_t>(model.precision));
}

}  // namespace fastrnn

// Operations of libtorch that tch has no binding of, in C: over lists of tensors, and attention over rows end to end.
// Each returns null, or what went wrong, which the caller frees.

#include <cstring>
#include <exception>
#include <optional>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>

namespace {

using Pointers = at::Tensor *const *;

std::vector<at::Tensor> list(Pointers tensors, size_t count) {
  std::vector<at::Tensor> list;
  list.reserve(count);
  for (size_t at = 0; at < count; at++) {
    list.push_back(*tensors[at]);
  }
  return list;
}

template <typename Call>
char *caught(Call call) {
  try {
    call();
    return nullptr;
  } catch (const std::exception &error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("an exception that says nothing");
  }
}

}  // namespace

extern "C" {

// `pinned` takes a new tensor.
char *bam_pinned(const at::Tensor *tensor, at::Tensor **pinned) {
  return caught([&] { *pinned = new at::Tensor(tensor->pin_memory()); });
}

char *bam_copy_all(Pointers into, Pointers from, size_t count) {
  return caught([&] { at::_foreach_copy_(list(into, count), list(from, count)); });
}

// `norms` takes as many new tensors.
char *bam_norms(Pointers tensors, size_t count, at::Tensor **norms) {
  return caught([&] {
    auto computed = at::_foreach_norm(list(tensors, count));
    for (size_t at = 0; at < count; at++) {
      norms[at] = new at::Tensor(computed[at]);
    }
  });
}

char *bam_adamw(Pointers weights, Pointers gradients, Pointers firsts, Pointers seconds, size_t count,
                const at::Tensor *steps, double learning_rate, double beta_1, double beta_2, double weight_decay,
                double epsilon, const at::Tensor *gradient_divisor) {
  return caught([&] {
    const std::vector<at::Tensor> steps_of_each(count, *steps);
    at::_fused_adamw_(list(weights, count), list(gradients, count), list(firsts, count), list(seconds, count), {},
                      steps_of_each, learning_rate, beta_1, beta_2, weight_decay, epsilon, /*amsgrad=*/false,
                      /*maximize=*/false, *gradient_divisor);
  });
}

// `attended` takes a new tensor.
char *bam_attention(const at::Tensor *query, const at::Tensor *key, const at::Tensor *value,
                    const at::Tensor *query_starts, const at::Tensor *key_starts, int64_t longest_query,
                    int64_t longest_key, double dropout, at::Tensor **attended) {
  return caught([&] {
    auto computed = at::_flash_attention_forward(*query, *key, *value, *query_starts, *key_starts, longest_query,
                                                 longest_key, dropout, /*is_causal=*/false,
                                                 /*return_debug_mask=*/false, std::optional<double>());
    *attended = new at::Tensor(std::get<0>(computed));
  });
}

}

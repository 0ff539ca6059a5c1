// An accelerator made of host memory: a device type of its own whose operators compute on the CPU.
//
// It is for tests on machines without a GPU. It refuses what CUDA refuses (tensors of two devices in one operator,
// a random generator of another device), on request what Apple's MPS refuses (float64), and it tells a listener
// whenever a program would have to wait for an asynchronous device. Built on PyTorch's PrivateUse1 key.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/autocast_mode.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/extension.h>

#include <unordered_set>

using c10::IntArrayRef;
using std::optional;
using std::string;

namespace {

const c10::Device kDevice(c10::DeviceType::PrivateUse1, 0);

// ---- what a test can set and hear --------------------------------------------------------------------------------

bool without_float64 = false;
optional<py::function> listener;
thread_local int depth = 0;  // above 0 the CPU computes, whose reads of its own values are no waits

void wait_for(const string& reason) {
  if (depth > 0 || !listener) return;
  py::gil_scoped_acquire held;
  (*listener)(reason);
}

bool is_here(const at::Tensor& tensor) { return tensor.device().type() == kDevice.type(); }

void require_type(c10::ScalarType type, const string& operation) {
  const bool wide = type == at::kDouble || type == at::kComplexDouble;
  TORCH_CHECK(!(without_float64 && wide), "this device has no float64, as MPS has none (in ", operation, ")");
}

// ---- memory, streams and random numbers --------------------------------------------------------------------------

struct HostMemory final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* memory = c10::alloc_cpu(bytes);
    return {memory, memory, c10::free_cpu, kDevice};
  }
  c10::DeleterFnPtr raw_deleter() const override { return c10::free_cpu; }
  void copy_data(void* target, const void* source, size_t bytes) const override {
    default_copy_data(target, source, bytes);
  }
} memory;

struct OneStream final : c10::impl::DeviceGuardImplInterface {
  c10::Stream stream() const { return c10::Stream(c10::Stream::DEFAULT, kDevice); }
  c10::DeviceType type() const override { return kDevice.type(); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  c10::Device getDevice() const override { return kDevice; }
  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return stream(); }
  c10::Stream exchangeStream(c10::Stream) const override { return stream(); }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, OneStream);

struct RandomNumbers final : at::CPUGeneratorImpl {
  RandomNumbers() : CPUGeneratorImpl(c10::default_rng_seed_val) {
    device_ = kDevice;
    key_set_ = c10::DispatchKeySet(c10::DispatchKey::PrivateUse1);
  }
};

at::Generator& random_numbers() {
  static auto numbers = at::make_generator<RandomNumbers>();
  return numbers;
}

struct Device final : at::PrivateUse1HooksInterface {
  void init() const override {}
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  at::Device getDeviceFromPtr(void*) const override { return kDevice; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override { return random_numbers(); }
  at::Generator getNewGenerator(c10::DeviceIndex) const override { return at::make_generator<RandomNumbers>(); }
  c10::Allocator* getPinnedMemoryAllocator() const override { return c10::GetAllocator(c10::kCPU); }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    auto* kept = storage.unsafeGetStorageImpl();
    auto grown = memory.allocate(bytes);
    memory.copy_data(grown.get(), kept->data(), std::min(bytes, kept->nbytes()));
    kept->set_data_ptr_noswap(std::move(grown));
    kept->set_nbytes(bytes);
  }
} device;

// ---- most operators: the checks of CUDA, then the CPU ------------------------------------------------------------

const std::unordered_set<string> takes_indices_of_the_host{
    "aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"};
const std::unordered_set<string> has_a_size_that_depends_on_values{
    "aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive",
    "aten::repeat_interleave", "aten::bincount", "aten::equal", "aten::is_nonzero"};

void require_here(const at::Tensor& tensor, const string& operation, const string& argument) {
  if (!tensor.defined() || tensor.is_meta()) return;
  if (is_here(tensor)) return require_type(tensor.scalar_type(), operation);
  if (tensor.dim() == 0) return;  // a number of the host goes along with the launch
  TORCH_CHECK(takes_indices_of_the_host.count(operation), "Expected all tensors to be on the same device, but ",
      operation, " runs on ", kDevice, " and its argument ", argument, " is on ", tensor.device());
  wait_for("copy of indices to the device");
}

struct Deeper {
  Deeper() { ++depth; }
  ~Deeper() { --depth; }
};

void on_the_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& [operation, overload] = op.schema().operator_name();
  const auto& arguments = op.schema().arguments();
  auto values = torch::jit::last(*stack, arguments.size());
  optional<size_t> random;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const auto& value = values[i];
    if (value.isTensor()) require_here(value.toTensor(), operation, arguments[i].name());
    if (value.isTensorList())
      for (const at::Tensor& tensor : value.toTensorVector()) require_here(tensor, operation, arguments[i].name());
    if (value.isList() && !value.isTensorList())
      for (const c10::IValue& item : value.toListRef())
        if (item.isTensor()) require_here(item.toTensor(), operation, arguments[i].name());
    if (arguments[i].name() == "generator") random = stack->size() - arguments.size() + i;
  }
  if (has_a_size_that_depends_on_values.count(operation)) wait_for("result of " + operation.substr(6));
  if (!random) {
    Deeper computing;
    return at::native::cpu_fallback(op, stack, false);
  }
  auto& given = (*stack)[*random];
  auto numbers = given.isNone() ? random_numbers() : given.toGenerator();
  TORCH_CHECK(numbers.device().type() == kDevice.type(), "Expected a random generator of ", kDevice, ", not of ",
      numbers.device());
  auto of_the_cpu = at::detail::createCPUGenerator();
  of_the_cpu.set_state(numbers.get_state());
  given = c10::IValue(of_the_cpu);
  {
    Deeper computing;
    at::native::cpu_fallback(op, stack, false);
  }
  numbers.set_state(of_the_cpu.get_state());
}

// ---- allocations, views and copies, which the CPU cannot make ----------------------------------------------------

using Type = optional<c10::ScalarType>;
using Layout = optional<c10::Layout>;
using Place = optional<c10::Device>;
using Pinned = optional<bool>;
using Format = optional<c10::MemoryFormat>;
const c10::DispatchKeySet kKeys(c10::DispatchKey::PrivateUse1);

at::Tensor empty(IntArrayRef size, Type type, Layout, Place, Pinned, Format format) {
  require_type(c10::dtype_or_default(type), "empty");
  return at::detail::empty_generic(size, &memory, kKeys, c10::dtype_or_default(type), format);
}

at::Tensor empty_strided(IntArrayRef size, IntArrayRef stride, Type type, Layout, Place, Pinned) {
  require_type(c10::dtype_or_default(type), "empty_strided");
  return at::detail::empty_strided_generic(size, stride, &memory, kKeys, c10::dtype_or_default(type));
}

at::Tensor seen_by_the_cpu(const at::Tensor& tensor) {
  if (!is_here(tensor)) return tensor;
  const auto keep = [tensor](void*) {};
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(), keep,
      tensor.options().device(c10::kCPU).memory_format(std::nullopt));
}

at::Tensor copy_from(const at::Tensor& source, const at::Tensor& target, bool non_blocking) {
  if (source.device() != target.device()) {
    const string direction = is_here(source) ? "copy to the host" : "copy to the device";
    wait_for(non_blocking ? "asynchronous " + direction : direction);
  }
  at::NoGradGuard no_grad;
  seen_by_the_cpu(target).copy_(seen_by_the_cpu(source));
  return target;
}

at::Tensor copy_from_and_resize(const at::Tensor& source, const at::Tensor& target) {
  at::NoGradGuard no_grad;
  if (target.sizes() != source.sizes()) target.resize_(source.sizes());
  seen_by_the_cpu(target).copy_(seen_by_the_cpu(source));
  return target;
}

at::Scalar read_value(const at::Tensor& tensor) {
  wait_for("read of a value");
  return seen_by_the_cpu(tensor).item();
}

const at::Tensor& resize_(const at::Tensor& self, IntArrayRef size, Format format) {
  const auto laid_out = at::empty(size, self.options().memory_format(format));
  self.set_(laid_out.storage(), 0, size, laid_out.strides());
  return self;
}

at::Tensor view(const at::Tensor& self, IntArrayRef size) { return at::native::view(self, size); }

at::Tensor as_strided(const at::Tensor& self, IntArrayRef size, IntArrayRef stride, optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(self, size, stride, offset);
}

at::Tensor reshape_alias(const at::Tensor& self, IntArrayRef size, IntArrayRef stride) {
  return at::native::_reshape_alias(self, size, stride);
}

at::Tensor unfold(const at::Tensor& self, int64_t dimension, int64_t size, int64_t step) {
  return at::native::unfold(self, dimension, size, step);
}

at::Tensor& set_whole(at::Tensor& self, at::Storage source) { return at::native::set_(self, source); }

at::Tensor& set_part(
    at::Tensor& self, at::Storage source, int64_t offset, IntArrayRef size, IntArrayRef stride) {
  return at::native::set_storage_cpu_(self, source, offset, size, stride);
}

at::Tensor& set_tensor(at::Tensor& self, const at::Tensor& source) { return at::native::set_tensor_(self, source); }

}  // namespace

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&on_the_cpu>());
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
  library.impl("_local_scalar_dense", &read_value);
  library.impl("resize_", &resize_);
  library.impl("view", &view);
  library.impl("as_strided", &as_strided);
  library.impl("_reshape_alias", &reshape_alias);
  library.impl("unfold", &unfold);
  library.impl("set_.source_Storage", &set_whole);
  library.impl("set_.source_Storage_storage_offset", &set_part);
  library.impl("set_.source_Tensor", &set_tensor);
  // Accelerators have kernels for these; the implementations for any device would take them apart.
  for (const auto* whole :
       {"convolution", "convolution_backward", "native_group_norm", "native_group_norm_backward"})
    library.impl(whole, torch::CppFunction::makeFromBoxedFunction<&on_the_cpu>());
}

// ---- autocast: CUDA's lists --------------------------------------------------------------------------------------

using namespace at::autocast;
#define IN_LOWER(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, lower_precision_fp)
#define IN_FLOAT32(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32)
#define TO_FLOAT32(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32_set_opt_dtype)
#define IN_WIDEST(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, promote)

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
  AT_FORALL_LOWER_PRECISION_FP(IN_LOWER)
  AT_FORALL_FP32(IN_FLOAT32)
  AT_FORALL_FP32_SET_OPT_DTYPE(TO_FLOAT32)
  AT_FORALL_PROMOTE(IN_WIDEST)
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  c10::SetAllocator(kDevice.type(), &memory);
  at::RegisterPrivateUse1HooksInterface(&device);
  module.def("listen", [](optional<py::function> function) { listener = std::move(function); });
  module.def("without_float64", [](bool value) { without_float64 = value; });
  module.def("seed", [](uint64_t seed) { random_numbers().set_current_seed(seed); });
  module.def("random_state", [] { return random_numbers().get_state(); });
  module.def("set_random_state", [](const at::Tensor& state) { random_numbers().set_state(state); });
}

#pragma once
// The profile of an arm's steps.
#include <string>

#include "engine/profile.h"
#include "lab/report/profile_json.h"
#include "lab/train/trainer.h"

namespace weir {

/// Where the time of an arm's steps goes, beside the rates of the machine at its start.
class StepProfile {
 public:
  StepProfile(const Target& target, Trainer& trainer)
      : kernels_(trainer.programs()), facts_(measured_facts(target, trainer.threads())) {
    trainer.set_profile(kernels_.sink());
  }
  void count(double seconds) {
    facts_.steps += 1;
    facts_.step_seconds += seconds;
  }
  std::string json(const std::string& arm) {
    facts_.what = arm;
    return profile_json(kernels_.times(), facts_);
  }

 private:
  KernelProfile kernels_;
  ProfileFacts facts_;
};

}  // namespace weir

from collective_variables.active_learning.certificate import Certificate as Certificate
from collective_variables.active_learning.certificate import certify as certify
from collective_variables.active_learning.fitting import FitSettings as FitSettings
from collective_variables.active_learning.learner import ActiveLearner as ActiveLearner
from collective_variables.data.encoding import read_table as read_table
from collective_variables.data.problems import Dataset as Dataset
from collective_variables.data.problems import load_problem as load_problem
from collective_variables.experiment.composition import run_experiment as run_experiment
from collective_variables.kernels._traced import RetracingWarning as RetracingWarning
from collective_variables.kernels.empirical import empirical_ntk as empirical_ntk
from collective_variables.kernels.empirical import estimate_cost as estimate_cost
from collective_variables.kernels.features.sketches import ntk_features as ntk_features
from collective_variables.kernels.infinite_width import infinite_width_ntk as infinite_width_ntk
from collective_variables.kernels.kernel_function import ntk_fn as ntk_fn
from collective_variables.kernels.products import kernel_product as kernel_product
from collective_variables.kernels.traces.exact import ntk_trace as ntk_trace
from collective_variables.kernels.traces.probes import estimate_trace as estimate_trace
from collective_variables.networks.imported import load_model as load_model
from collective_variables.networks.sequential import ACTIVATIONS as ACTIVATIONS
from collective_variables.networks.sequential import build_network as build_network
from collective_variables.observables.collective import kernel_alignment as kernel_alignment
from collective_variables.observables.growth.laws import growth_laws as growth_laws
from collective_variables.observables.lanczos import estimate_entropy as estimate_entropy
from collective_variables.observables.measurement import measure_ensemble as measure_ensemble
from collective_variables.observables.predictors import kernel_predictors as kernel_predictors
from collective_variables.observables.spectrum import collective_variables as collective_variables
from collective_variables.observables.spectrum import eigenvalues as eigenvalues
from collective_variables.observables.spectrum import entropy as entropy
from collective_variables.observables.spectrum import trace as trace
from collective_variables.selection.base import Selection as Selection
from collective_variables.selection.estimator import RNDSelector as RNDSelector
from collective_variables.selection.registry import SELECTION_METHODS as SELECTION_METHODS
from collective_variables.selection.registry import select as select
from collective_variables.selection.rnd import RNDSettings as RNDSettings
from collective_variables.selection.rnd_linearised import (
    LinearisedRNDSettings as LinearisedRNDSettings,
)
from collective_variables.training.any_loop.recorder import Recorder as Recorder
from collective_variables.training.ensemble_training import train_ensemble as train_ensemble
from collective_variables.training.loop import train as train
from collective_variables.training.position.decomposition import Decomposition as Decomposition
from collective_variables.training.position.decomposition import decompose as decompose
from collective_variables.training.schedules import Schedule as Schedule
from collective_variables.training.trace_scaling import scale_by_trace as scale_by_trace

__version__: str

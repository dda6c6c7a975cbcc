"""The interfaces of medsynth's packages and the conventions for tensors. Read this first.

Conventions, everywhere:

* images are float tensors ``(N, C, H, W)`` in [-1, 1], H = W = ``image_size``, C = ``channels``;
* labels are int64 tensors ``(N,)`` in ``[0, num_classes)``; ``num_classes == 0`` means unconditional;
* noise ``z`` is ``(N, latent_dim)``, standard normal;
* discriminators return logits ``(N, K)``, never probabilities: K logits for each image (1, or one for each patch, level
  or network), of which losses take the mean;
* features are a tuple of tensors ``(N, ...)``: the output of a discriminator's frozen part and the input of its head;
* a batch is a dict ``{"image": (N, C, H, W), "label": (N,), "index": (N,)}``; "label" only where the data has labels;
* for translation "image" is the source ``(N, C_source, H, W)``, and the batch also has "target" ``(N, C, H, W)``: the
  same place in the other kind of image, or, of unpaired data, any image of that kind. Where the data has masks, "mask"
  ``(N, 1, H, W)`` is 1 in the foreground and 0 elsewhere.

Packages import this package and their own library, never each other. A class need not inherit from its contract: having
its members is enough, and ``check_contract`` names a missing one when a training starts.
"""

from medsynth.contracts.checks import activations as activations
from medsynth.contracts.checks import check_contract as check_contract
from medsynth.contracts.checks import contract_members as contract_members
from medsynth.contracts.course import Adaptive as Adaptive
from medsynth.contracts.course import Augmentation as Augmentation
from medsynth.contracts.course import Schedule as Schedule
from medsynth.contracts.course import Scheduled as Scheduled
from medsynth.contracts.data import Batch as Batch
from medsynth.contracts.data import DataDescription as DataDescription
from medsynth.contracts.data import Intensity as Intensity
from medsynth.contracts.data import TrainingData as TrainingData
from medsynth.contracts.measures import Better as Better
from medsynth.contracts.measures import FeatureExtractor as FeatureExtractor
from medsynth.contracts.measures import HasFeatures as HasFeatures
from medsynth.contracts.measures import Metrics as Metrics
from medsynth.contracts.measures import ModeReader as ModeReader
from medsynth.contracts.networks import AuxiliaryClassifier as AuxiliaryClassifier
from medsynth.contracts.networks import Backbone as Backbone
from medsynth.contracts.networks import Discriminator as Discriminator
from medsynth.contracts.networks import Encoder as Encoder
from medsynth.contracts.networks import Features as Features
from medsynth.contracts.networks import Generator as Generator
from medsynth.contracts.networks import HasActivations as HasActivations
from medsynth.contracts.networks import HasEncoding as HasEncoding
from medsynth.contracts.networks import HasStyles as HasStyles
from medsynth.contracts.networks import MinibatchFactory as MinibatchFactory
from medsynth.contracts.networks import MinibatchLayer as MinibatchLayer
from medsynth.contracts.networks import Network as Network
from medsynth.contracts.networks import Translator as Translator
from medsynth.contracts.objectives import AdaptiveGeneratorPenalty as AdaptiveGeneratorPenalty
from medsynth.contracts.objectives import GeneratorPenalty as GeneratorPenalty
from medsynth.contracts.objectives import GeneratorUpdate as GeneratorUpdate
from medsynth.contracts.objectives import ImagePenalty as ImagePenalty
from medsynth.contracts.objectives import LogitPenalty as LogitPenalty
from medsynth.contracts.objectives import Loss as Loss
from medsynth.contracts.objectives import Penalty as Penalty
from medsynth.contracts.objectives import PerturbedPenalty as PerturbedPenalty
from medsynth.contracts.objectives import ReconstructionTerm as ReconstructionTerm
from medsynth.contracts.seeds import counter_seed as counter_seed
from medsynth.contracts.seeds import noise as noise
from medsynth.errors import InputError as InputError
from medsynth.image_sizes import doublings as doublings

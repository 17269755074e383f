"""The tutorial's ending, made to work: convolution features, and a classifier that reads them.

The filters are learned from the training images, without their labels. Needs scikit-learn:

    pip install "pycnn[sklearn]"
    python examples/classify_digits.py
"""

from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from pycnn.sklearn import ConvFeatures


def main():
    """Learn filters and a classifier on half of the digits, and try them on the other half."""
    digits = load_digits()
    train_images, test_images, train_labels, test_labels = train_test_split(
        digits.images, digits.target, test_size=0.5, random_state=0, stratify=digits.target
    )

    extractor = ConvFeatures(kernel_size=4, random_state=0)
    features = extractor.fit_transform(train_images)
    classifier = LogisticRegression().fit(features, train_labels)

    predictions = classifier.predict(extractor.transform(test_images))
    print(f"{len(train_images)} images to learn from, {features.shape[1]} features of each")
    print(f"the first ten: {predictions[:10]}, and in truth: {test_labels[:10]}")
    print(f"{(predictions == test_labels).mean():.1%} of {len(test_labels)} others are right")


if __name__ == "__main__":
    main()
